/* Binds a host socket whose connect was refused to another device or to none, and connects it. */
#include "attack.h"

static void attack(void) {
    int fd = refused();
    unpin(fd);
    reach(fd);
}
