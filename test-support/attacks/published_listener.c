/* Shuts a published listener down, and connects it. */
#include "attack.h"

static void attack(void) {
    int fd = listener();
    shutdown(fd, SHUT_RDWR);
    reach(fd);
}
