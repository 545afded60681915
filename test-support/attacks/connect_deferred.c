/* Dissolves a connection that TCP_FASTOPEN_CONNECT has put off, and connects a duplicate of it. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM), one = 1;
    must(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one), "setsockopt");
    must(connect(fd, &remote.any, length(&remote)), "connect to a server that may be reached");
    int copy = must(dup(fd), "dup");
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach(copy);
}
