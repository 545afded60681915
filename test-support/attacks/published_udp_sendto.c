/* Sends to it from a published UDP port. */
#include "attack.h"

static void attack(void) {
    reach_by_datagram(published_datagrams());
}
