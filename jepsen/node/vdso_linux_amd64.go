package node

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// routine takes the place of __vdso_clock_gettime(clockid edi, timespec *rsi): it asks
// the kernel and bends the answer for the wall clock (0) and the monotonic clock (1) by
// the row of the table that follows it.
//
//	mov  r8d, edi ; mov eax, 228 ; syscall ; test eax, eax ; jnz done
//	mov  rax, [rsi] ; imul rax, rax, 1000000000 ; add rax, [rsi+8] ; mov r9, rax
//	lea  r10, [rip+table] ; cmp r8d, 1 ; ja good ; jne bend ; add r10, 24
//	bend: mov rax, r9 ; sub rax, [r10] ; imul qword [r10+16] ; shrd rax, rdx, 32
//	add  rax, r9 ; add rax, [r10+8]
//	xor  edx, edx ; mov ecx, 1000000000 ; div rcx ; mov [rsi], rax ; mov [rsi+8], rdx
//	good: xor eax, eax
//	done: ret
var routine = assemble()

// table is the offset of the two rows in routine, wall clock first.
const table = 104

func assemble() []byte {
	head := []byte{
		0x41, 0x89, 0xf8, // mov r8d, edi
		0xb8, 0xe4, 0, 0, 0, // mov eax, 228
		0x0f, 0x05, // syscall
		0x85, 0xc0, // test eax, eax
		0x75, 0, // jnz done
		0x48, 0x8b, 0x06, // mov rax, [rsi]
		0x48, 0x69, 0xc0, 0x00, 0xca, 0x9a, 0x3b, // imul rax, rax, 1e9
		0x48, 0x03, 0x46, 0x08, // add rax, [rsi+8]
		0x49, 0x89, 0xc1, // mov r9, rax
		0x4c, 0x8d, 0x15, 0, 0, 0, 0, // lea r10, [rip+table]
		0x41, 0x83, 0xf8, 0x01, // cmp r8d, 1
		0x77, 0, // ja good
		0x75, 0x04, // jne bend
		0x49, 0x83, 0xc2, 0x18, // add r10, 24
		0x4c, 0x89, 0xc8, // bend: mov rax, r9
		0x49, 0x2b, 0x02, // sub rax, [r10]
		0x49, 0xf7, 0x6a, 0x10, // imul qword [r10+16]
		0x48, 0x0f, 0xac, 0xd0, 0x20, // shrd rax, rdx, 32
		0x4c, 0x01, 0xc8, // add rax, r9
		0x49, 0x03, 0x42, 0x08, // add rax, [r10+8]
		0x31, 0xd2, // xor edx, edx
		0xb9, 0x00, 0xca, 0x9a, 0x3b, // mov ecx, 1e9
		0x48, 0xf7, 0xf1, // div rcx
		0x48, 0x89, 0x06, // mov [rsi], rax
		0x48, 0x89, 0x56, 0x08, // mov [rsi+8], rdx
		0x31, 0xc0, // good: xor eax, eax
		0xc3, // done: ret
	}
	const jnzAt, leaAt, jaAt = 13, 34, 43 // of the bytes after the opcodes
	done, good := len(head)-1, len(head)-3
	head[jnzAt] = byte(done - (jnzAt + 1))
	head[jaAt] = byte(good - (jaAt + 1))
	binary.LittleEndian.PutUint32(head[leaAt:], uint32(table-(leaAt+4)))
	if len(head) > table {
		panic("the routine reaches into its table")
	}
	return append(append(head, make([]byte, table-len(head))...), make([]byte, 48)...)
}

// patchClock puts the routine into a process that stands still.
func patchClock(pid int) (*clock, error) {
	start, end, err := vdsoOf(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	image := make([]byte, end-start)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		return nil, fmt.Errorf("vDSO of %d: %w", pid, err)
	}
	at, size, err := roomFor(image)
	if err != nil {
		return nil, err
	}
	if size < uint64(len(routine)) {
		return nil, fmt.Errorf("vDSO: __vdso_clock_gettime and what may be overwritten after it have %d bytes, %d are needed", size, len(routine))
	}
	if _, err := mem.WriteAt(routine, int64(start+at)); err != nil {
		return nil, fmt.Errorf("patch vDSO of %d: %w", pid, err)
	}
	return &clock{table: start + at + table}, nil
}

// roomFor finds __vdso_clock_gettime and how much may be written over from there: up
// to the next function that a Go program calls.
func roomFor(image []byte) (at, size uint64, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, fmt.Errorf("vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			at, size = s.Value, s.Size
		}
	}
	if at == 0 {
		return 0, 0, fmt.Errorf("vDSO: no __vdso_clock_gettime")
	}
	// Functions after it that nobody here calls may go, too.
	unused := map[string]bool{"__vdso_clock_getres": true, "clock_getres": true, "clock_gettime": true,
		"__vdso_clock_gettime": true, "__vdso_time": true, "time": true, "__vdso_getcpu": true, "getcpu": true}
	end := uint64(len(image))
	for _, s := range symbols {
		if s.Value > at && s.Value < end && !unused[s.Name] && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			end = s.Value
		}
	}
	for _, section := range file.Sections {
		if section.Flags&elf.SHF_EXECINSTR != 0 && at >= section.Addr && at < section.Addr+section.Size {
			end = min(end, section.Addr+section.Size)
		}
	}
	return at, max(size, end-at), nil
}

func vdsoOf(pid int) (start, end uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x", &start, &end)
			return start, end, err
		}
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO", pid)
}

// write puts the rows into the table.
func (c *clock) write(pid int) error {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	var b []byte
	for _, r := range []row{c.wall, c.mono} {
		for _, v := range []int64{r.base, r.offset, r.num} {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
	}
	_, err = mem.WriteAt(b, int64(c.table))
	return err
}

// clockReadings are the true clocks as the process to be bent sees them.
func (n *Node) clockReadings() (mono, wall int64) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano() + int64(n.UptimeOffset.Truncate(time.Second)), time.Now().UnixNano()
}

// stillTries bounds how often a process is stopped until no thread is in its vDSO.
const stillTries = 100

// standStill stops the process at a moment when no thread runs in the vDSO; the
// function it returns lets it go on.
func (n *Node) standStill(pid int) (func(), error) {
	start, end, err := vdsoOf(pid)
	if err != nil {
		return nil, err
	}
	for range stillTries {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return nil, err
		}
		free, err := outside(pid, start, end)
		if err == nil && free {
			return func() { _ = syscall.Kill(pid, syscall.SIGCONT) }, nil
		}
		_ = syscall.Kill(pid, syscall.SIGCONT)
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("process %d: some thread was always reading the clock", pid)
}

// outside waits until every thread stands still and says whether none is between start
// and end. A thread in the kernel returns to where it called from, so its place counts.
func outside(pid int, start, end uint64) (bool, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, err
	}
	for _, t := range tasks {
		pc, err := standing(pid, t.Name())
		if err != nil {
			return false, err
		}
		if pc >= start && pc < end {
			return false, nil
		}
	}
	return true, nil
}

// standing waits until one thread stands still and returns its program counter.
func standing(pid int, tid string) (uint64, error) {
	for end := time.Now().Add(freezeWait); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, tid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(text))
		if len(fields) < 2 { // "running"
			continue
		}
		return strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
	}
	return 0, fmt.Errorf("thread %s of %d does not stand still", tid, pid)
}
