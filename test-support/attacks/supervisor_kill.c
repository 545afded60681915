/* Kills every process that is not its own, and then its whole process group, to which others outside
 * may belong. */
#include "attack.h"

static void attack(void) {
    if (native) kill(supervisor, SIGKILL);
    for (pid_t pid = 1; !native && pid < 40000; pid++)
        if (pid != getpid() && pid != getppid()) kill(pid, SIGKILL);
    turn();
    kill(0, SIGKILL);
}
