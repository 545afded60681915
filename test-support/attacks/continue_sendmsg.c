/* Sends on a UNIX socket by sendmsg with IP_PKTINFO, and has another thread put a UDP socket of
 * the host in its place meanwhile. */
#include "pktinfo.h"

static void call(int fd) { by_loopback(fd); }
static bool won(void) { return false; }

static void attack(void) {
    race(must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), connected(SOCK_DGRAM), call, won);
}
