// Package disk is a file system that can lose power. It passes everything through to a
// backing directory and remembers, for each file and each directory, how to take back
// what was not synced yet; a power failure takes it back.
//
// Its words: the backing directory holds the bytes; the journal is the undo log; a
// record is one change that can be taken back (bytes of a file, a length, a name); an
// fsync of a file makes the changes to its bytes lasting, an fsync of a directory those
// to its names, and neither does the other's work.
//
// Its one rule: what was synced survives and what was not may go. That is the letter of
// POSIX; ext4 is kinder, so a program that stands this stands that.
//
// Beside power failures the disk can be slow, hang, fail, be full, or lie about fsync.
// Each counts what it did.
package disk
