/* Connects a published UDP socket to it, and sends. */
#include "attack.h"

static void attack(void) { reach_by_connected_datagram(published_datagrams()); }
