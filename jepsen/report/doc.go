// Package report makes the page that a person opens after a run: index.html in the run's
// directory. It is one file that needs nothing else: style and drawings are inside, the
// few lines of script (a cross-hair and zoom) may be missing.
//
// Its words: a span is the run from 0 to its end on the harness's clock, cut into equal
// buckets; a series is a number over a span; a chart is a drawing of series with the
// faults shaded behind it; a pool is tenant and feature.
//
// Its one rule: the page judges nothing. Verdicts come from package checker, and what is
// drawn is for understanding them. Whatever the size of a run, making the page takes
// linear time (but for sorting), and the page stays below three megabytes.
//
// Times of log entries are estimated: an entry lies on the harness's clock where the
// first answer that rests on it arrived, and entries without an answer lie between their
// neighbours as cluster time says.
package report
