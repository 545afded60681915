/* Sends to a multicast group that a service of the host has joined on the loopback device. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM);
    struct ip_mreqn by = {.imr_ifindex = 1};
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by);
    must(sendto(fd, token, strlen(token), 0, &to.any, length(&to)), "sendto");
}
