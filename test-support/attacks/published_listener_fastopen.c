/* Shuts a published listener down, and sends from it with MSG_FASTOPEN. */
#include "attack.h"

static void attack(void) {
    int fd = listener();
    shutdown(fd, SHUT_RDWR);
    reach_by_fastopen(fd);
}
