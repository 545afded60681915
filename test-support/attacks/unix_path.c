/* Connects to a UNIX socket in the file system of the host. */
#include "attack.h"

static void attack(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    must(connect(fd, &name, sizeof name), "connect");
    reached("connected");
}
