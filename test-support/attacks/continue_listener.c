/* Connects a UNIX socket, and has another thread put a published listener that was shut down in
 * its place meanwhile. */
#include "attack.h"
static void call(int fd) { connect(fd, &to.any, length(&to)); }
static bool won(void) { return connected_to(host, &to); }

static void attack(void) {
    int fd = listener();
    shutdown(fd, SHUT_RDWR);
    set_blocking(fd, false);
    if (race(must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), fd, call, won)) await(fd);
}
