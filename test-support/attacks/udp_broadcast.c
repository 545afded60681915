/* Sends to the broadcast address of the loopback device. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    must(sendto(fd, token, strlen(token), 0, &to.any, length(&to)), "sendto");
}
