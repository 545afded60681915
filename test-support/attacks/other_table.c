/* Dissolves, in a thread with a descriptor table of its own, a UDP socket of the host whose
 * number is that of a UNIX socket for the other threads. */
#include "attack.h"
static int number, fd;

static void *apart(void *unused) {
    (void)unused;
    must(unshare(CLONE_FILES), "unshare");
    dup2(fd, number);
    connect(number, &unspec_address, sizeof unspec_address);
    if (!connected_to(fd, &remote)) reach_by_datagram(fd);
    return NULL;
}

static void attack(void) {
    number = must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket");
    fd = connected(SOCK_DGRAM);
    pthread_t other;
    pthread_create(&other, NULL, apart, NULL);
    pthread_join(other, NULL);
}
