/* Connects a host socket that it has kept across execve. */
#include "attack.h"

static void attack(void) {
    const char *kept = getenv("KEPT");
    if (kept) {
        reach(atoi(kept));
        return;
    }
    int fd = dissolved(SOCK_STREAM);
    char number[16], said[100];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(said, sizeof said, "token=%s", token);
    setenv("KEPT", number, 1);
    execl(program, program, target, said, NULL);
    could_not("execve");
}
