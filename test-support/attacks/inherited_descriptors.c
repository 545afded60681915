/* Looks for descriptors that were left open for it. */
#include "attack.h"

static void attack(void) {
    for (int fd = 3; fd < 1024; fd++) {
        char link[40], name[200] = {0}, what[300];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, name, sizeof name - 1) < 0) continue;
        snprintf(what, sizeof what, "%d is %s", fd, name);
        reached(what);
    }
}
