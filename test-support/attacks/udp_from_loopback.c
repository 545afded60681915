/* Sends to a service at another address of the host by sendmsg, with a source address on
 * loopback (IP_PKTINFO). */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    struct in_pktinfo from = {.ipi_ifindex = 1, .ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK)};
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof from)]; } control = {0};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof from), IPPROTO_IP, IP_PKTINFO};
    memcpy(CMSG_DATA(&control.header), &from, sizeof from);
    struct msghdr message = {
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control,
    };
    must(sendmsg(fd, &message, 0), "sendmsg");
}
