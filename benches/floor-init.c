/* The guest of the floor: a kernel's first program, which says that it runs and powers the machine off. */
#include <fcntl.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
    int console = open("/dev/console", O_WRONLY);
    if (console >= 0 && write(console, "floor: up\n", 10) != 10)
        return 1;
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
