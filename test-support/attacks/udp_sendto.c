/* Sends to it from a UDP socket that is connected elsewhere. */
#include "attack.h"

static void attack(void) {
    reach_by_datagram(connected(SOCK_DGRAM));
}
