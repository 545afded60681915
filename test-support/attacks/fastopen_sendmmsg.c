/* Sends with MSG_FASTOPEN (sendmmsg), which connects, from a host socket whose connect was
 * refused. */
#include "attack.h"

static void attack(void) {
    int fd = refused();
    set_blocking(fd, false);
    struct iovec data = {(char *)token, strlen(token)};
    struct mmsghdr message = {.msg_hdr = {
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
    }};
    ssize_t sent = sendmmsg(fd, &message, 1, MSG_FASTOPEN | MSG_NOSIGNAL);
    if (sent > 0) reached("sent");
    if (errno == EINPROGRESS) await(fd);
}
