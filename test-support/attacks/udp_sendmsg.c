/* Sends to it by sendmsg from a UDP socket that is connected elsewhere. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    struct msghdr message = {
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
    };
    if (sendmsg(fd, &message, 0) > 0 && answered(fd)) reached("a datagram, and its answer");
}
