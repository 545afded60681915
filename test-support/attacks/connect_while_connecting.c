/* Dissolves a connection that is on its way, and connects a duplicate of the socket. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM | SOCK_NONBLOCK);
    if (connect(fd, &silent.any, length(&silent)) == 0 || errno != EINPROGRESS)
        could_not("connect to a silent address");
    int copy = must(dup(fd), "dup");
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach(copy);
}
