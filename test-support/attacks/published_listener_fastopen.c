/* Shuts a published listener down, and sends from it with MSG_FASTOPEN. */
#include "attack.h"

static void attack(void) {
    int fd = listener();
    shutdown(fd, SHUT_RDWR);
    set_blocking(fd, false);
    if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, length(&to)) > 0) reached("sent");
    if (errno == EINPROGRESS) await(fd);
}
