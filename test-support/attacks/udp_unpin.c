/* Binds a UDP socket of the host to another device or to none, and sends. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    unpin(fd);
    reach_by_datagram(fd);
}
