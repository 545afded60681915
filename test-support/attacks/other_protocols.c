/* Goes there by every other protocol and family of sockets that it can have. */
#include "attack.h"

static void attack(void) {
    static const int kinds[][3] = {
        {0, SOCK_STREAM, 132 /* SCTP */},
        {0, SOCK_SEQPACKET, 132},
        {0, 6 /* SOCK_DCCP */, 33},
        {0, SOCK_DGRAM, 136 /* UDP-Lite */},
        {0, SOCK_DGRAM, IPPROTO_ICMP},
        {0, SOCK_RAW, IPPROTO_TCP},
        {0, SOCK_RAW, IPPROTO_UDP},
        {AF_PACKET, SOCK_RAW, 0},
        {AF_NETLINK, SOCK_RAW, 0},
        {43 /* AF_SMC */, SOCK_STREAM, 0},
        {30 /* AF_TIPC */, SOCK_STREAM, 0},
        {44 /* AF_XDP */, SOCK_RAW, 0},
        {21 /* AF_RDS */, SOCK_SEQPACKET, 0},
    };
    bool any = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int fd = socket(kinds[i][0] ? kinds[i][0] : family(), kinds[i][1], kinds[i][2]);
        if (fd < 0) continue;
        any = true;
        set_blocking(fd, false);
        sendto(fd, token, strlen(token), MSG_NOSIGNAL, &to.any, length(&to));
        if (connect(fd, &to.any, length(&to)) == 0 || errno == EINPROGRESS) {
            writable(fd, 20);
            send(fd, token, strlen(token), MSG_NOSIGNAL);
        }
        close(fd);
    }
    if (!any) could_not("socket");
}
