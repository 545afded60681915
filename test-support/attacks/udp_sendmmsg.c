/* Sends a datagram that is allowed and one that is not by one sendmmsg. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    struct mmsghdr messages[2] = {0};
    for (int i = 0; i < 2; i++) {
        messages[i].msg_hdr.msg_iov = &data;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    messages[1].msg_hdr.msg_name = &to;
    messages[1].msg_hdr.msg_namelen = length(&to);
    must(sendmmsg(fd, messages, 2, 0), "sendmmsg");
}
