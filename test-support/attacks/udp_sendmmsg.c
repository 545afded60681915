/* Sends a datagram that is allowed and one that is not by one sendmmsg. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    struct mmsghdr messages[2] = {
        {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}},
        {.msg_hdr = {.msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1}},
    };
    must(sendmmsg(fd, messages, 2, 0), "sendmmsg");
}
