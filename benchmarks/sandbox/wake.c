/* The smallest socket-activated service: says that it is ready, takes one connection from the listener that systemd passed as
 * descriptor 3, reads the request, answers, and exits when the client closes. Static, so that neither the dynamic loader nor an
 * interpreter blurs what the sandbox costs. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* sd_notify(3); the socket of the system's manager is a path. */
static void ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un manager = { .sun_family = AF_UNIX };

    if (!path || strlen(path) >= sizeof manager.sun_path)
        return;
    strcpy(manager.sun_path, path);
    sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "READY=1", 7, 0, (struct sockaddr *) &manager, sizeof manager);
}

int main(void)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    char request[4096];
    int client;

    ready();
    client = accept(3, 0, 0);
    if (client < 0 || read(client, request, sizeof request) < 0)
        return EXIT_FAILURE;
    if (write(client, answer, sizeof answer - 1) != sizeof answer - 1)
        return EXIT_FAILURE;
    /* Until the client closes, for the control group's processor time is gone with the group. */
    while (read(client, request, sizeof request) > 0)
        ;
    return EXIT_SUCCESS;
}
