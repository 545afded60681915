/* Connects a UDP socket to it, and sends. */
#include "attack.h"

static void attack(void) { reach_by_connected_datagram(fresh(SOCK_DGRAM)); }
