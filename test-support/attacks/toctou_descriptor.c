/* Connects a container socket to where those may go, and has another thread put a host socket
 * in its place meanwhile. */
#include "attack.h"
static void call(int fd) { connect(fd, &to.any, length(&to)); }
static bool won(void) { return connected_to(host, &to); }

static void attack(void) {
    int container = fresh(SOCK_STREAM | SOCK_NONBLOCK), fd = refused();
    set_blocking(fd, false);
    if (race(container, fd, call, won)) await(fd);
}
