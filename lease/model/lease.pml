/*
 * The lease protocol for one seat and two clients, in unbounded time: who may believe in
 * the seat when clocks drift, machines sleep, messages are lost, come late or twice, and
 * the leader changes at any moment. README.md says what stands for what.
 *
 * All times are relative (what is left, what has passed) and saturate, so that the
 * states are finite though time has no end. -DNAME takes one rule away; see variants.
 */

#define L       3	/* lifespan and grace together, in ticks of real time */
#define STEP    1	/* the most cluster time between two commits (MaxStep) */
#define DRIFT   (L - 1)	/* a clock misses at most one tick in L */
#ifdef NO_MARGIN
#define MARGIN  0
#else
#define MARGIN  1	/* taken off every answer, for that missed tick */
#endif
#if defined(CATCH_UP)
#define AHEAD   (3 * STEP)
#else
#define AHEAD   STEP	/* what the leader's clock passes it by is forgotten for good */
#endif

#define NOBODY  2	/* clients are 0 and 1 */
#define IDS     6	/* enough lease ids that one which nobody remembers is free */

/* Kinds of requests, of log entries and of answers. */
#define NONE     0
#define CHECKOUT 1
#define RENEW    2
#define CHECKIN  3
#define TICK     4	/* an entry only: time passes, what is due is reclaimed */

/* The ledger, as committed. */
byte holder = NOBODY;
byte leased;		/* id of the live lease */
byte left;		/* cluster time until it may be reclaimed */
bit seen[2];		/* whether the latest numbered request of each client was applied */

/* The leader: its clock beyond the committed time, and one entry under way. */
byte ahead;
typedef Entry { byte kind; byte who; byte id; byte stamp; byte since; bit current };	/* current: it carries the latest number */
Entry entry;
#ifdef ANY_EPOCH
bit stray;		/* an entry of a deposed leader is still under way */
byte strayStamp;
#endif

/* Two requests of a client may be under way, so that one can come late, and one answer. */
typedef Request { byte kind; byte id; byte since; bit current };
typedef Answer  { byte kind; byte id; byte use; bit current };	/* use: what it lets the client believe, if it comes now */
typedef Client {
	byte until;	/* how long it still believes, on its own clock */
	byte id;	/* the lease it believes in */
	bit asking;	/* a checkout of it has not been answered */
#ifdef SLEEPY_CLOCK
	bit asleep;
#endif
	Request request[2];
	Answer answer
};
Client client[2];

/* A client that sleeps is one that does nothing, and its clock goes on: the assertion then
 * even counts sleepers. Only a clock that stops in sleep needs a state of its own. */
#ifdef SLEEPY_CLOCK
#define awake(c)	(!client[c].asleep)
#else
#define awake(c)	true
#endif
#define believes(c)	(client[c].until > 0 && awake(c))
#define lower(x, d)	x = (x > (d) -> x - (d) : 0)
#define LATE	(L - MARGIN)	/* an answer to a request that old is worthless */
#define older(x)	x = (x < LATE -> x + 1 : LATE)

#define clearRequest(r)	r.kind = NONE; r.id = 0; r.since = 0; r.current = 0
#define clearAnswer(a)	a.kind = NONE; a.id = 0; a.use = 0; a.current = 0
#define clearEntry()	entry.kind = NONE; entry.who = 0; entry.id = 0; entry.stamp = 0; entry.since = 0; entry.current = 0

/* A tick of a client's own clock. */
inline age(c) {
	d_step {
	lower(client[c].until, 1);
	if
	:: client[c].until == 0 -> client[c].id = 0
	:: else
	fi;
	older(client[c].request[0].since);
	older(client[c].request[1].since);
#ifndef FROM_RECEIPT
	lower(client[c].answer.use, 1);
#endif
	if
	:: entry.kind != NONE && entry.kind != TICK && entry.who == c -> older(entry.since)
	:: else
	fi;
	/* Nothing is as good as long ago. */
	if
	:: client[c].request[0].kind == NONE -> client[c].request[0].since = 0
	:: else
	fi;
	if
	:: client[c].request[1].kind == NONE -> client[c].request[1].since = 0
	:: else
	fi;
	if
	:: client[c].answer.use == 0 -> clearAnswer(client[c].answer)
	:: else
	fi
	}
}

/* Ticks since a client's clock missed one. One count serves both: for two believers only
 * the slow clock of the one who should have stopped matters. */
byte drift;

/* A tick as a client lives it: its clock counts it, also in sleep, or misses it. */
inline tickOf(c) {
	if
#ifdef SLEEPY_CLOCK
	:: client[c].asleep
	:: !client[c].asleep -> age(c)
#else
	:: age(c)
#endif
	:: drift == DRIFT -> r = 1
	fi
}

/* A request goes out; it takes the place of one that is then lost. */
inline send(c, k, lease) {
	if
	:: s = 0
	:: s = 1
	fi;
	client[c].request[s].kind = k;
	client[c].request[s].id = lease;
	client[c].request[s].since = 0;
	client[c].request[s].current = (k != RENEW)
}

/* A new numbered request (checkout, check-in): all earlier ones are now older ones. */
inline number(c) {
	seen[c] = 0;
	client[c].request[0].current = 0;
	client[c].request[1].current = 0;
	client[c].answer.current = 0;
	if
	:: entry.kind != NONE && entry.who == c -> entry.current = 0
	:: else
	fi
}

/* How long ago a request was sent matters only if its answer will be looked at. */
#ifdef ANY_ANSWER
#define unheard(x, c)	(x.kind == CHECKIN)
#else
#define unheard(x, c)	(x.kind == CHECKIN || x.kind == CHECKOUT && !(x.current && client[c].asking))
#endif

/* A request that can never have an effect again is as good as lost: one that was overtaken
 * by a later number, or names a lease that is over (its id is not given to c again while c
 * remembers it). So is an answer about such a lease, if the client does not hold it. */
#ifdef NO_NUMBERS
#define overtaken(x, c)	false
#else
#define overtaken(x, c)	((x.kind == CHECKOUT || x.kind == CHECKIN) && !x.current && seen[c])
#endif
#define over(i, c)	(!(holder == c && leased == i))
#define inert(x, c)	(overtaken(x, c) || (x.kind == RENEW || x.kind == CHECKIN) && over(x.id, c))
#ifdef RENEW_BY_CLIENT
#define deaf(x, c)	unheard(x, c)
#else
#define deaf(x, c)	(unheard(x, c) || x.kind == RENEW && client[c].id != x.id && over(x.id, c))
#endif

/* The two requests of a client are a set: one order of them is enough. */
#define rank(x)	(((x.kind * (IDS + 1) + x.id) * (L + 1) + x.since) * 2 + x.current)
#define swap(f)	s = client[c].request[0].f; client[c].request[0].f = client[c].request[1].f; client[c].request[1].f = s

inline tidy() {
	d_step {
	c = 0;
	do
	:: c < 2 ->
		if :: inert(client[c].request[0], c) -> clearRequest(client[c].request[0]) :: else fi;
		if :: inert(client[c].request[1], c) -> clearRequest(client[c].request[1]) :: else fi;
		if :: unheard(client[c].request[0], c) -> client[c].request[0].since = 0 :: else fi;
		if :: unheard(client[c].request[1], c) -> client[c].request[1].since = 0 :: else fi;
		if :: deaf(client[c].answer, c) -> clearAnswer(client[c].answer) :: else fi;
		if
		:: rank(client[c].request[0]) < rank(client[c].request[1]) -> swap(kind); swap(id); swap(since); swap(current)
		:: else
		fi;
		c++
	:: else -> break
	od;
	if :: unheard(entry, entry.who) -> entry.since = 0 :: else fi;
	if
	:: inert(entry, entry.who) -> entry.kind = TICK; entry.who = 0; entry.id = 0; entry.since = 0; entry.current = 0
	:: else
	fi;
	c = 0; r = 0; s = 0
	}
}

inline reply(c, k, lease, rest, passed, fresh) {
	client[c].answer.kind = k;
	client[c].answer.id = lease;
	client[c].answer.use = rest;
#ifdef FROM_RECEIPT
	lower(client[c].answer.use, MARGIN);
#else
	lower(client[c].answer.use, passed + MARGIN);
#endif
	client[c].answer.current = fresh;
	if
	:: client[c].answer.use == 0 -> clearAnswer(client[c].answer)
	:: else
	fi
}

#define known(i) (client[c].id == i || client[c].answer.id == i || \
	client[c].request[0].id == i || client[c].request[1].id == i)

/* The next lease of client c gets an id that nothing of c remembers. */
inline grant(c) {
	s = 1;
	do
	:: s < IDS && known(s) -> s++
	:: else -> break
	od;
	assert(!known(s));
	holder = c; leased = s; left = L
}

inline free() { holder = NOBODY; leased = 0; left = 0 }

/* Cluster time passes. */
inline pass(d) {
	lower(left, d);
	lower(ahead, d)
#ifdef ANY_EPOCH
	;
	lower(strayStamp, d)
#endif
}

#ifdef NO_NUMBERS
#define stale(c)	false
#else
#define stale(c)	((entry.kind == CHECKOUT || entry.kind == CHECKIN) && !entry.current && seen[c])
#endif

/* What the state machine makes of an entry of the current epoch. */
inline apply(c) {
	pass(entry.stamp);
	if
	:: holder != NOBODY && left == 0 -> free()	/* judged again, at the entry's own time */
	:: else
	fi;
	if
	:: stale(c) -> skip	/* an older request: refused */
	:: !stale(c) && entry.kind == CHECKOUT && holder == c ->
		if
		:: !(entry.current && seen[c]) -> left = L	/* asked again, not repeated */
		:: else
		fi;
		reply(c, CHECKOUT, leased, left, entry.since, entry.current)
	:: !stale(c) && entry.kind == CHECKOUT && holder == NOBODY && !(entry.current && seen[c]) ->
		grant(c);
		reply(c, CHECKOUT, leased, left, entry.since, entry.current)
	:: entry.kind == RENEW && holder == c && leased == entry.id ->
		left = L;
		reply(c, RENEW, leased, left, entry.since, 0)
	:: !stale(c) && entry.kind == CHECKIN && holder == c && leased == entry.id -> free()
	:: else
	fi;
	if
	:: entry.current -> seen[c] = 1
	:: else
	fi;
	clearEntry()
}

inline believe(c, lease, rest) {
	if
	:: client[c].id != lease -> client[c].id = lease; client[c].until = rest
	:: client[c].id == lease && rest > client[c].until -> client[c].until = rest
	:: else
	fi
}

/* The client takes an answer in, if it is one to what it asked. */
inline receive(c) {
	if
#ifdef ANY_ANSWER
	:: client[c].answer.kind == CHECKOUT && client[c].asking ->
#else
	:: client[c].answer.kind == CHECKOUT && client[c].asking && client[c].answer.current ->
#endif
		client[c].asking = 0;
		believe(c, client[c].answer.id, client[c].answer.use)
#ifdef RENEW_BY_CLIENT
	:: client[c].answer.kind == RENEW ->
#else
	:: client[c].answer.kind == RENEW && client[c].id == client[c].answer.id ->
#endif
		believe(c, client[c].answer.id, client[c].answer.use)
	:: else
	fi;
	clearAnswer(client[c].answer)
}

#define knows(c)	(client[c].id != 0)

/* The leader stamps a request and puts it into the log; it is not committed yet. */
inline propose(kd, c, ls, passed, fresh) {
	entry.kind = kd; entry.who = c; entry.id = ls; entry.since = passed; entry.current = fresh;
#ifdef NO_REBASE
	entry.stamp = ahead;
#else
	entry.stamp = (ahead < STEP -> ahead : STEP);
#endif
#ifdef ANSWER_FIRST
	if
	:: kd == RENEW && holder == c && leased == ls -> reply(c, RENEW, ls, L, passed, 0)
	:: else
	fi
#endif
}

/* The use of a seat ends before the cluster hears of it. */
inline giveBack(c) {
	number(c);
	send(c, CHECKIN, client[c].id);
	client[c].asking = 0;
#ifndef RELEASE_FIRST
	client[c].until = 0; client[c].id = 0
#endif
}

/* An election: what was under way is committed by the new leader, or never. Its clock
 * starts from the committed time. */
inline elect() {
	if
	:: entry.kind != NONE -> apply(entry.who)
#ifdef ANY_EPOCH
	:: entry.kind != NONE -> stray = 1; strayStamp = entry.stamp; clearEntry()
#endif
	:: clearEntry()
	fi;
#ifdef NO_REBASE
	ahead = L
#else
	ahead = 0
#endif
}

/* Real time passes for all at once; the leader's clock may be as slow as it likes. */
inline tick() {
	r = 0;
	tickOf(0);
	tickOf(1);
	if
	:: r == 1 -> drift = 0
	:: r == 0 && drift < DRIFT -> drift++
	:: else
	fi;
	if
	:: ahead < AHEAD -> ahead++
	:: true
	fi
}

/* A copy of a request reaches the leader; a duplicate of it may stay under way. */
inline arrive() {
	propose(client[c].request[r].kind, c, client[c].request[r].id, client[c].request[r].since, client[c].request[r].current);
	if
	:: true
	:: clearRequest(client[c].request[r])
	fi
}

active proctype world() {
	byte c, r, s;
	do
	:: atomic {
		if
		:: tick()
		:: elect()
		:: entry.kind == NONE -> propose(TICK, 0, 0, 0, 0)
		:: entry.kind != NONE -> apply(entry.who)
#ifdef WALL_CLOCK
		:: ahead = STEP		/* the leader's clock is set forward */
#endif
#ifdef ANY_EPOCH
		:: stray -> pass(strayStamp); stray = 0; strayStamp = 0
#endif
		:: true ->
			if :: c = 0 :: c = 1 fi;
			if
			:: entry.kind == NONE && client[c].request[0].kind != NONE -> r = 0; arrive()
			:: entry.kind == NONE && client[c].request[1].kind != NONE -> r = 1; arrive()
			:: awake(c) && !knows(c) && !client[c].asking -> client[c].asking = 1; number(c); send(c, CHECKOUT, 0)
			:: awake(c) && client[c].asking -> send(c, CHECKOUT, 0)		/* the same one again */
			:: awake(c) && client[c].asking -> client[c].asking = 0	/* it gives up */
			:: awake(c) && knows(c) -> send(c, RENEW, client[c].id)
			:: awake(c) && knows(c) -> giveBack(c)
			:: awake(c) && knows(c) -> client[c].until = 0; client[c].id = 0	/* it crashes */
			:: awake(c) && client[c].answer.kind != NONE -> receive(c)
#ifdef SLEEPY_CLOCK
			:: client[c].asleep = 1 - client[c].asleep
#endif
			:: else
			fi
		fi;
		tidy();
		assert(!(believes(0) && believes(1)))
	   }
	od
}
