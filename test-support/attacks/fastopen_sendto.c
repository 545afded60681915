/* Sends with MSG_FASTOPEN (sendto), which connects, from a host socket whose connect was refused. */
#include "attack.h"

static void attack(void) {
    int fd = refused();
    set_blocking(fd, false);
    ssize_t sent = sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, length(&to));
    if (sent > 0) reached("sent");
    if (errno == EINPROGRESS) await(fd);
}
