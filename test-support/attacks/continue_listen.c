/* Listens on a UNIX socket, and has another thread put a TCP socket of the host in its place
 * meanwhile. */
#include "attack.h"
static void call(int fd) { listen(fd, 5); }
static bool won(void) { return listens(host); }

static void attack(void) {
    int unix_socket = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    if (race(unix_socket, dissolved(SOCK_STREAM), call, won)) hold();
}
