/* Connects to an abstract UNIX socket of the host. */
#include "attack.h"

static void attack(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0bypass-canary"};
    int fd = must(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    must(connect(fd, (struct sockaddr *)&name, sizeof(sa_family_t) + 14), "connect");
    reached("connected");
}
