/* A guest of one page of code for the contract suite: no operating system, entered by PVH in 32-bit protected mode.
 *
 * It prints its command line on COM1 and does what `do=` in it says: poweroff, reset, panic, fault (a triple fault), halt (for
 * ever), hang, flood (prints for ever), count (prints 1, 2, 3 and so on), or echo (sends back what comes on the first
 * virtio-serial port, or, where there is none, on port 1024 of a virtio socket). mod.rs builds it.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define GED_REGISTERS 0xfea00200u /* QEMU's microvm: sleep control at 0, reset at 2 */
#define VIRTIO_BASE 0xfeb00000u
#define VIRTIO_STRIDE 0x200u
#define VIRTIO_SLOTS 24
#define QUEUE_SIZE 8

__asm__(".section .note.pvh, \"a\", @note\n"
        ".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
        ".asciz \"Xen\"\n"
        ".long start\n"
        ".section .text.start, \"ax\"\n"
        ".globl start\n"
        "start: cli\n"
        "mov $stack_top, %esp\n"
        "push %ebx\n"
        "call guest\n"
        ".bss\n.align 16\n.skip 8192\nstack_top:\n.text\n");

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static volatile u32 *reg(u32 base, u32 offset) { return (volatile u32 *)(base + offset); }

static void print(const char *text) {
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20)) { }
        out8(0x3f8, (u8)*text);
    }
}

static int asks(const char *line, const char *word) {
    for (; *line; line++) {
        u32 i = 0;
        while (word[i] && line[i] == word[i]) i++;
        if (!word[i]) return 1;
    }
    return 0;
}

struct descriptor { u32 address, address_high, length; u16 flags, next; };
struct queue {
    struct descriptor table[QUEUE_SIZE] __attribute__((aligned(16)));
    struct { u16 flags, index, ring[QUEUE_SIZE]; } available __attribute__((aligned(4)));
    struct { u16 flags, index; struct { u32 id, length; } ring[QUEUE_SIZE]; } used __attribute__((aligned(4)));
    u16 seen;
    u8 buffer[256];
};
static volatile struct queue queues[6];
struct control { u32 id; u16 event, value; };

static void offer(u32 base, u32 number, u32 length, int is_writable) {
    volatile struct queue *queue = &queues[number];
    queue->table[0].address = (u32)queue->buffer;
    queue->table[0].length = length;
    queue->table[0].flags = is_writable ? 2 : 0;
    queue->available.ring[queue->available.index % QUEUE_SIZE] = 0;
    __sync_synchronize();
    queue->available.index++;
    __sync_synchronize();
    *reg(base, 0x50) = number;
}

static u32 taken(u32 number) {
    volatile struct queue *queue = &queues[number];
    while (queue->used.index == queue->seen) { }
    __sync_synchronize();
    return queue->used.ring[queue->seen++ % QUEUE_SIZE].length;
}

static void send_control(u32 base, u32 id, u16 event, u16 value) {
    volatile struct control *message = (volatile struct control *)queues[3].buffer;
    message->id = id; message->event = event; message->value = value;
    offer(base, 3, sizeof *message, 0);
    taken(3);
}

/* The transport of a device of this kind in a range of them; 0: there is none. */
static u32 find(u32 from, u32 stride, u32 count, u32 kind) {
    for (u32 base = from; count--; base += stride)
        if (*reg(base, 0) == 0x74726976 && *reg(base, 8) == kind) return base;
    return 0;
}

/* Takes a device over: its low features, and its queues from first to last. */
static void drive(u32 base, u32 features, u32 first, u32 last) {
    *reg(base, 0x70) = 0;
    *reg(base, 0x70) = 1;
    *reg(base, 0x70) = 3;
    *reg(base, 0x24) = 0; *reg(base, 0x20) = features;
    *reg(base, 0x24) = 1; *reg(base, 0x20) = 1; /* VERSION_1 */
    *reg(base, 0x70) = 11;
    for (u32 number = first; number <= last; number++) {
        *reg(base, 0x30) = number;
        *reg(base, 0x38) = QUEUE_SIZE;
        *reg(base, 0x80) = (u32)queues[number].table; *reg(base, 0x84) = 0;
        *reg(base, 0x90) = (u32)&queues[number].available; *reg(base, 0x94) = 0;
        *reg(base, 0xa0) = (u32)&queues[number].used; *reg(base, 0xa4) = 0;
        *reg(base, 0x44) = 1;
    }
    *reg(base, 0x70) = 15;
}

/* A virtio socket (virtio 1.2, 5.10): one connection to port 1024 at a time. */
#define VSOCK_BASE 0xc0000000u /* Firecracker's devices: one a page, from here on, whatever its version */
#define VSOCK_STRIDE 0x1000u
#define VSOCK_PAGES 0x10100
#define VSOCK_PORT 1024
#define VSOCK_ROOM 65536
enum { REQUEST = 1, RESPONSE = 2, RESET = 3, SHUTDOWN = 4, DATA = 5, CREDIT_UPDATE = 6, CREDIT_REQUEST = 7 };
struct packet {
    u32 from_cid, from_cid_high, to_cid, to_cid_high, from_port, to_port, length;
    u16 type, operation;
    u32 flags, room, taken;
} __attribute__((packed));
static volatile struct packet received, answer;
static volatile u8 payload[4096];

/* A chain of a header and the payload, both the device's to read or to write. */
static void offer_packet(u32 base, u32 number, volatile struct packet *packet, u32 length, int is_writable) {
    volatile struct queue *queue = &queues[number];
    queue->table[1].address = (u32)payload;
    queue->table[1].length = length;
    queue->table[1].flags = is_writable ? 2 : 0;
    queue->table[0].address = (u32)packet;
    queue->table[0].length = sizeof *packet;
    queue->table[0].flags = (is_writable ? 2 : 0) | (length ? 1 : 0);
    queue->table[0].next = 1;
    queue->available.ring[queue->available.index % QUEUE_SIZE] = 0;
    __sync_synchronize();
    queue->available.index++;
    __sync_synchronize();
    *reg(base, 0x50) = number;
}

static void echo_by_socket(u32 base) {
    u32 taken_bytes = 0;
    drive(base, 0, 0, 2);
    print("echoing\n");
    for (;;) {
        offer_packet(base, 0, &received, sizeof payload, 1);
        taken(0);
        u16 operation = 0;
        u32 length = 0;
        if (received.operation == REQUEST) {
            operation = received.to_port == VSOCK_PORT ? RESPONSE : RESET;
            taken_bytes = 0;
        } else if (received.operation == DATA) {
            operation = DATA;
            length = received.length;
            taken_bytes += length;
        } else if (received.operation == CREDIT_REQUEST) operation = CREDIT_UPDATE;
        else if (received.operation == SHUTDOWN) operation = RESET;
        if (!operation) continue;
        answer.from_cid = received.to_cid; answer.from_cid_high = 0;
        answer.to_cid = received.from_cid; answer.to_cid_high = 0;
        answer.from_port = received.to_port; answer.to_port = received.from_port;
        answer.length = length;
        answer.type = 1; /* a stream */
        answer.operation = operation;
        answer.flags = 0;
        answer.room = VSOCK_ROOM; answer.taken = taken_bytes;
        offer_packet(base, 1, &answer, length, 0);
        taken(1);
    }
}

static void echo(void) {
    u32 base = find(VIRTIO_BASE, VIRTIO_STRIDE, VIRTIO_SLOTS, 3);
    if (!base) base = find(VSOCK_BASE, VSOCK_STRIDE, VSOCK_PAGES, 19);
    if (!base) { print("nothing to echo on\n"); return; }
    if (*reg(base, 8) == 19) echo_by_socket(base);
    drive(base, 2 /* MULTIPORT */, 2, 5);
    offer(base, 2, sizeof queues[2].buffer, 1);
    send_control(base, 0xffffffff, 0, 1); /* device ready */
    for (;;) {
        volatile struct control *message = (volatile struct control *)queues[2].buffer;
        taken(2);
        u32 id = message->id;
        u16 event = message->event;
        offer(base, 2, sizeof queues[2].buffer, 1);
        if (event == 1) { /* port added */
            send_control(base, id, 3, 1); /* port ready */
            send_control(base, id, 6, 1); /* port open */
            break;
        }
    }
    print("echoing\n");
    for (;;) {
        offer(base, 4, sizeof queues[4].buffer, 1);
        u32 length = taken(4);
        for (u32 i = 0; i < length; i++) queues[5].buffer[i] = queues[4].buffer[i];
        offer(base, 5, length, 0);
        taken(5);
    }
}

static void count(void) {
    for (u32 number = 1;; number++) {
        char digits[12];
        u32 i = sizeof digits, rest = number;
        digits[--i] = 0;
        digits[--i] = '\n';
        do digits[--i] = (char)('0' + rest % 10); while (rest /= 10);
        print(digits + i);
        for (u32 pause = 0; pause < 1000; pause++) __asm__ volatile("pause");
    }
}

__attribute__((used)) void guest(const u32 *start_info) {
    const char *line = (const char *)start_info[6];
    out8(0x3fb, 3);
    print("tiny guest: ");
    print(line);
    print("\n");
    if (asks(line, "do=poweroff")) *(volatile u8 *)GED_REGISTERS = 0x34;
    if (asks(line, "do=reset")) *(volatile u8 *)(GED_REGISTERS + 2) = 0x42;
    if (asks(line, "do=panic")) out8(0x505, 1);
    /* Firecracker has none of these; its one end is the keyboard controller's reset. */
    if (asks(line, "do=poweroff") || asks(line, "do=reset") || asks(line, "do=panic")) out8(0x64, 0xfe);
    if (asks(line, "do=fault")) { /* without a table of handlers the first exception is a triple fault */
        static const struct { u16 limit; u32 base; } __attribute__((packed)) none;
        __asm__ volatile("lidt %0; int3" : : "m"(none));
    }
    if (asks(line, "do=halt")) { /* interrupts are off: nothing wakes it */
        print("halting\n");
        for (;;) __asm__ volatile("hlt");
    }
    if (asks(line, "do=echo")) echo();
    if (asks(line, "do=count")) count();
    while (asks(line, "do=flood")) print("the quick brown fox jumps over the lazy dog\n");
    for (;;) __asm__ volatile("pause");
}
