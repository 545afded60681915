/* Dissolves a connection that is allowed, binds a duplicate of the socket to a port, and
 * listens. */
#include "attack.h"

static void attack(void) {
    int fd = dissolved(SOCK_STREAM);
    must(bind(fd, &to.any, length(&to)), "bind");
    if (listen(fd, 5) == 0) hold();
}
