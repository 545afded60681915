/* Binds a UNIX socket, has another thread put a TCP socket of the host in its place meanwhile,
 * and has that listen in the same way. */
#include "attack.h"
static void call(int fd) { bind(fd, &to.any, length(&to)); }
static bool won(void) {
    address local = {0};
    socklen_t len = sizeof local;
    return getsockname(host, &local.any, &len) == 0 && !memcmp(&local, &to, length(&to));
}
static void call_listen(int fd) { listen(fd, 5); }
static bool won_listen(void) { return listens(host); }

static void attack(void) {
    int unix_socket = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket"), fd = dissolved(SOCK_STREAM);
    if (race(unix_socket, fd, call, won) && race(unix_socket, fd, call_listen, won_listen)) hold();
}
