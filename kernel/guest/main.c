// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pattern.h"
#include "payload.h"

#define PORT_NAME "org.mergelab.payload"
#define PORTS "/sys/class/virtio-ports"
#define PORT_WAIT_MS 10000
#define PORT_STEP_MS 10

static bool is_init(void)
{
	return getpid() == 1;
}

/* A guest without its payload is of no use: it ends, and its console says why */
static void __attribute__((noreturn)) end(int status)
{
	if (!is_init())
		exit(status);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

void die(const char *format, ...)
{
	va_list arguments;

	fputs("payload: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	end(EXIT_FAILURE);
}

static void announce(const struct area *area)
{
	printf("payload: %llu pages at %#llx\n", (unsigned long long)area->pages,
	       (unsigned long long)area->address);
	fflush(stdout);
}

static void mount_at(const char *type, const char *path)
{
	mkdir(path, 0755);
	if (mount(type, path, type, MS_NOSUID | MS_NOEXEC, NULL))
		die("cannot mount %s at %s: %s", type, path, strerror(errno));
}

/* The device of the named port below /dev, or an empty string while there is none */
static void find_port(char *device, size_t size)
{
	DIR *ports = opendir(PORTS);
	struct dirent *entry;

	device[0] = '\0';
	while (ports && (entry = readdir(ports))) {
		char name[sizeof(PORT_NAME)] = "";
		char path[512];
		int fd;

		snprintf(path, sizeof(path), PORTS "/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, name, sizeof(name)) == sizeof(name) &&
		    !memcmp(name, PORT_NAME "\n", sizeof(name)))
			snprintf(device, size, "/dev/%s", entry->d_name);
		close(fd);
	}
	if (ports)
		closedir(ports);
}

/* The host announces its ports one by one, after the kernel has found the device */
static int open_port(void)
{
	char device[512];

	for (int waited = 0; waited < PORT_WAIT_MS; waited += PORT_STEP_MS) {
		int fd;

		find_port(device, sizeof(device));
		if (*device) {
			fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
			if (fd < 0)
				die("cannot open %s: %s", device, strerror(errno));
			return fd;
		}
		usleep(PORT_STEP_MS * 1000);
	}
	die("there is no virtio-serial port " PORT_NAME ": give the guest one");
}

/*
 * The port of a guest stays open; clients come and go at its other end. While
 * none is there a read says "end of file" at once, so wait for a change: the
 * edge that epoll reports when a client comes, goes or sends.
 */
static void serve_port(struct area *area)
{
	struct session session = {
		.area = area,
		.fd = open_port(),
		.changes = epoll_create1(EPOLL_CLOEXEC),
	};
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };

	if (session.changes < 0 ||
	    epoll_ctl(session.changes, EPOLL_CTL_ADD, session.fd, &event))
		die("cannot watch the port: %s", strerror(errno));
	announce(area);
	for (;;) {
		serve(&session);
		if (session.done)
			return;
		epoll_wait(session.changes, &event, 1, -1);
	}
}

static void __attribute__((noreturn)) be_init(void)
{
	struct area area;

	mount_at("devtmpfs", "/dev");
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	area_of_guest(&area);
	serve_port(&area);
	/* Let QEMU deliver the last answer before the machine goes */
	usleep(100000);
	end(EXIT_SUCCESS);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		die("the socket's path has more than %zu bytes: %s",
		    sizeof(address.sun_path) - 1, path);
	memcpy(address.sun_path, path, strlen(path));
	umask(0077);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4)) {
		if (errno == EADDRINUSE)
			die("%s exists: stop the payload that listens there, or remove it", path);
		die("cannot listen at %s: %s", path, strerror(errno));
	}
	return fd;
}

/* Clients of a process are served one after the other, as in a guest */
static void serve_socket(struct area *area, const char *path)
{
	struct session session = { .done = false };
	int listener = listen_at(path);

	announce(area);
	while (!session.done) {
		struct pollfd client = { .events = POLLIN };

		session = (struct session){ .area = area, .changes = -1 };
		session.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (session.fd < 0)
			continue;
		client.fd = session.fd;
		while (poll(&client, 1, -1) >= 0 && serve(&session) && !session.done)
			;
		close(session.fd);
	}
	unlink(path);
}

int main(int argc, char **argv)
{
	struct area area;
	uint64_t pages;

	signal(SIGPIPE, SIG_IGN);
	if (is_init())
		be_init();
	if (argc != 5 || strcmp(argv[1], "--pages") || strcmp(argv[3], "--socket")) {
		fprintf(stderr, "usage: %s --pages N --socket PATH\n", argv[0]);
		return EXIT_FAILURE;
	}
	if (!parse_number(argv[2], &pages) || !pages || pages > SIZE_MAX / PAGE_BYTES / 2)
		die("--pages %s is not a number of pages", argv[2]);
	area_of_process(&area, pages);
	serve_socket(&area, argv[4]);
	return EXIT_SUCCESS;
}
