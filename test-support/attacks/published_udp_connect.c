/* Connects a published UDP socket to it, and sends. */
#include "attack.h"

static void attack(void) {
    int fd = published_datagrams();
    if (connect(fd, &to.any, length(&to)) == 0 && send(fd, token, strlen(token), 0) > 0 && answered(fd))
        reached("a datagram, and its answer");
}
