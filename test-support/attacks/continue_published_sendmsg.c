/* Sends on a UNIX socket by sendmsg with IP_PKTINFO, has another thread put a published UDP
 * socket in its place meanwhile, and waits for answers to be relayed to that. */
#include "heard.h"
#include "pktinfo.h"

static void call(int fd) { by_loopback(fd); }
static bool never(void) { return false; }

static void attack(void) {
    int unix_socket = must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), fd = published_datagrams();
    if (!race(unix_socket, fd, call, heard)) return;
    token = answer;
    race(unix_socket, fd, call, never);
}
