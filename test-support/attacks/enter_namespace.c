/* Enters every network namespace that it can find, and connects there. */
#include "attack.h"
#include <dirent.h>

static void attack(void) {
    DIR *all = opendir("/proc");
    struct dirent *one;
    while ((one = readdir(all))) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/ns/net", one->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        setns(fd, CLONE_NEWNET);
        close(fd);
        reach(fresh(SOCK_STREAM));
    }
}
