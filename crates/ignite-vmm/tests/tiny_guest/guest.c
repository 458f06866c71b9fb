/* A guest of one page of code for the contract suite: no operating system, entered by PVH in 32-bit protected mode.
 *
 * It prints its command line on COM1 and does what `do=` in it says: poweroff, reset, panic, fault (a triple fault), hang, flood (prints for
 * ever), or echo (sends back what comes on the first virtio-serial port). contract.rs builds it.
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

static void echo(void) {
    u32 base = 0;
    for (u32 i = 0; i < VIRTIO_SLOTS; i++)
        if (*reg(VIRTIO_BASE + i * VIRTIO_STRIDE, 8) == 3) base = VIRTIO_BASE + i * VIRTIO_STRIDE;
    if (!base) { print("no virtio-serial\n"); return; }
    *reg(base, 0x70) = 0;
    *reg(base, 0x70) = 3;
    *reg(base, 0x24) = 0; *reg(base, 0x20) = 2; /* MULTIPORT */
    *reg(base, 0x24) = 1; *reg(base, 0x20) = 1; /* VERSION_1 */
    *reg(base, 0x70) = 11;
    for (u32 number = 2; number < 6; number++) {
        *reg(base, 0x30) = number;
        *reg(base, 0x38) = QUEUE_SIZE;
        *reg(base, 0x80) = (u32)queues[number].table; *reg(base, 0x84) = 0;
        *reg(base, 0x90) = (u32)&queues[number].available; *reg(base, 0x94) = 0;
        *reg(base, 0xa0) = (u32)&queues[number].used; *reg(base, 0xa4) = 0;
        *reg(base, 0x44) = 1;
    }
    *reg(base, 0x70) = 15;
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
    if (asks(line, "do=echo")) echo();
    while (asks(line, "do=flood")) print("the quick brown fox jumps over the lazy dog\n");
    for (;;) __asm__ volatile("pause");
}
