/* A stand-in for wtsapi32.dll, kernel32.dll, advapi32.dll and shell32.dll that shows the agent
 * what a test has written to the file named by WTS_STUB, one thing a line, fields
 * parted by '|':
 *
 *   S|id|state|name|user|domain|logon|connect|disconnect|input|program|client|address|options
 *   P|session|pid|program|user time|kernel time    pid "self" is the agent's own
 *   A|domain\user|RID          an account, S-1-5-21-1-2-3-RID
 *   K|RID|type|text|FILETIME   the value Keep of the user's key Software\rdpbroker, and
 *                              when that was written; type 0: there is no such value
 *   own|ID  console|ID  admin|0 or 1  noevents|1  fail|function|code
 *
 * Options of a session, parted by ',': error=CODE fails class 25; logoff=CODE fails
 * WTSLogoffSession; act=CODE the others that change something; flip: a thread that has read the user's name sees the session
 * connected when it reads class 25 next. What is done is appended to the file
 * WTS_STUB.log and changes nothing: the test does.
 *
 * Memory is laid out as on Windows, of 64 or 32 bits: WTS_SESSION_INFO_1W, WTSINFOEXW,
 * WTS_PROCESS_INFO_EXW, WTS_CLIENT_ADDRESS. Files are replaced by rename. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIELDS 14
typedef uint16_t wchar;
typedef struct { char *f[FIELDS]; } row;
typedef struct { char *text; row *rows; int n; } file;

static file load(void) {
	file r = {0};
	FILE *in = fopen(getenv("WTS_STUB"), "r");
	if (!in) return r;
	r.text = calloc(1, 1 << 20);
	r.text[fread(r.text, 1, (1 << 20) - 1, in)] = 0;
	fclose(in);
	r.rows = calloc(8192, sizeof(row));
	for (char *p = r.text; *p && r.n < 8192;) {
		char *end = strchr(p, '\n');
		if (end) *end = 0;
		row *w = &r.rows[r.n++];
		for (int i = 0; i < FIELDS; i++) w->f[i] = "";
		for (int i = 0; i < FIELDS && p; i++) {
			w->f[i] = p;
			p = strchr(p, '|');
			if (p) *p++ = 0;
		}
		if (!end) break;
		p = end + 1;
	}
	return r;
}
static void drop(file *f) { free(f->text); free(f->rows); }

static row *find(file *f, const char *kind, const char *key) {
	for (int i = 0; i < f->n; i++)
		if (!strcmp(f->rows[i].f[0], kind) && (!key || !strcmp(f->rows[i].f[1], key))) return &f->rows[i];
	return NULL;
}
static int setting(const char *name, int otherwise) {
	file f = load();
	row *r = find(&f, name, NULL);
	int v = r ? atoi(r->f[1]) : otherwise;
	drop(&f);
	return v;
}
static int failing(file *f, const char *function) {
	row *r = find(f, "fail", function);
	return r ? (errno = atoi(r->f[2])) : 0;
}
static const char *option(row *r, const char *name) {
	const char *p = strstr(r->f[13], name);
	return p ? p + strlen(name) : NULL;
}

/* wide copies UTF-8 as UTF-16 into room units, cut and ended as Windows does. */
static void wide(wchar *to, int room, const char *s) {
	const unsigned char *p = (const unsigned char *)s;
	int n = 0;
	while (*p && n < room - 1) {
		uint32_t c = *p++;
		int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
		if (more) c &= 0x3f >> more;
		while (more--) c = c << 6 | (*p++ & 0x3f);
		if (c >= 0x10000) {
			if (n >= room - 2) break;
			to[n++] = 0xd800 + ((c - 0x10000) >> 10);
			c = 0xdc00 + (c & 0x3ff);
		}
		to[n++] = c;
	}
	to[n] = 0;
}
static wchar *wides(const char *s) {
	wchar *w = calloc(strlen(s) + 2, sizeof(wchar));
	wide(w, strlen(s) + 2, s);
	return w;
}

typedef struct { uint32_t env, state, id; wchar *name, *host, *user, *domain, *farm; } session1; /* WTS_SESSION_INFO_1W */
typedef struct { uint32_t session, pid; wchar *name; void *sid; uint32_t counters[6]; int64_t user, kernel; } process; /* WTS_PROCESS_INFO_EXW */
#define P sizeof(void *)
_Static_assert(sizeof(session1) == (P == 8 ? 16 : 12) + 5 * P && sizeof(process) == 8 + 2 * P + 24 + 16, "layout");

static __thread int flipped = -1; /* the session whose name this thread has read */

int WTSEnumerateSessionsExW(void *server, uint32_t *level, uint32_t filter, session1 **list, uint32_t *count) {
	file f = load();
	flipped = -1;
	if (*level != 1 || filter != 0) { errno = 87; drop(&f); return 0; }
	if (failing(&f, "WTSEnumerateSessionsExW")) { drop(&f); return 0; }
	session1 *s = calloc(f.n + 1, sizeof *s);
	uint32_t n = 0;
	for (int i = 0; i < f.n; i++) {
		row *r = &f.rows[i];
		if (strcmp(r->f[0], "S")) continue;
		session1 *x = &s[n++];
		x->env = x->id = atoi(r->f[1]);
		x->state = atoi(r->f[2]);
		x->name = wides(r->f[3]);
		if (*r->f[4]) {
			x->user = wides(r->f[4]);
			x->domain = wides(r->f[5]);
		}
	}
	drop(&f);
	*list = s;
	*count = n;
	return 1;
}

int WTSEnumerateProcessesExW(void *server, uint32_t *level, uint32_t session, process **list, uint32_t *count) {
	file f = load();
	process *p = calloc(f.n + 1, sizeof *p);
	uint32_t n = 1; /* the first element is empty */
	for (int i = 0; i < f.n; i++) {
		row *r = &f.rows[i];
		if (strcmp(r->f[0], "P")) continue;
		process *x = &p[n++];
		x->session = atoi(r->f[1]);
		x->pid = strcmp(r->f[2], "self") ? atoi(r->f[2]) : getpid();
		x->name = wides(r->f[3]);
		x->user = atoll(r->f[4]);
		x->kernel = atoll(r->f[5]);
	}
	drop(&f);
	*list = p;
	*count = n;
	return 1;
}

int WTSFreeMemoryExW(int type, void *list, uint32_t count) {
	for (uint32_t i = 0; i < count; i++) {
		if (type == 2) {
			session1 *s = (session1 *)list + i;
			free(s->name), free(s->user), free(s->domain);
		} else
			free(((process *)list + i)->name);
	}
	free(list);
	return 1;
}
void WTSFreeMemory(void *p) { free(p); }

static int64_t filetime_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 10000000LL + t.tv_nsec / 100 + 116444736000000000LL;
}

static char *infoex(row *r, int id) { /* WTSINFOEXW */
	char *d = calloc(1, 232);
	*(uint32_t *)(d + 0) = 1;
	*(uint32_t *)(d + 8) = id;
	*(uint32_t *)(d + 12) = flipped == id ? 0 : atoi(r->f[2]);
	wide((wchar *)(d + 20), 33, r->f[3]);
	wide((wchar *)(d + 86), 21, r->f[4]);
	wide((wchar *)(d + 128), 18, r->f[5]);
	*(int64_t *)(d + 168) = atoll(r->f[6]);
	*(int64_t *)(d + 176) = atoll(r->f[7]);
	*(int64_t *)(d + 184) = atoll(r->f[8]);
	*(int64_t *)(d + 192) = atoll(r->f[9]);
	*(int64_t *)(d + 200) = filetime_now();
	return d;
}

int WTSQuerySessionInformationW(void *server, int id, int what, char **data, uint32_t *size) {
	char key[16];
	if (id == -1 && what == 4) {
		*data = calloc(1, *size = 4);
		*(uint32_t *)*data = setting("own", 0);
		return 1;
	}
	file f = load();
	snprintf(key, sizeof key, "%d", id);
	row *r = find(&f, "S", key);
	const char *code, *text = NULL;
	int ok = 1;
	if (!r)
		ok = 0, errno = 7022;
	else if (what == 25 && (code = option(r, "error=")))
		ok = 0, errno = atoi(code);
	else if (what == 25) {
		*data = infoex(r, id);
		*size = 232;
		flipped = -1;
	} else if (what == 14) {
		unsigned a, b, c, d;
		*data = calloc(1, *size = 24); /* WTS_CLIENT_ADDRESS: family, 20 bytes */
		if (sscanf(r->f[12], "%u.%u.%u.%u", &a, &b, &c, &d) == 4) {
			*(uint32_t *)*data = 2;
			(*data)[6] = a, (*data)[7] = b, (*data)[8] = c, (*data)[9] = d;
		}
	} else if (what == 5) {
		text = r->f[4];
		if (option(r, "flip")) flipped = id;
	} else if (what == 7)
		text = r->f[5];
	else if (what == 10)
		text = r->f[11];
	else if (what == 0)
		text = r->f[10];
	else
		ok = 0, errno = 87;
	if (text) {
		*data = (char *)wides(text);
		*size = 2;
	}
	int e = errno;
	drop(&f);
	errno = e;
	return ok;
}

/* act does nothing to a session but to write it down, unless an option forbids it. */
static int act(int id, const char *forbids, const char *what) {
	char key[16], log[4096];
	file f = load();
	snprintf(key, sizeof key, "%d", id);
	row *r = find(&f, "S", key);
	const char *code = r ? option(r, forbids) : NULL;
	int e = !r ? 7022 : code ? atoi(code) : 0;
	drop(&f);
	if (!e) {
		snprintf(log, sizeof log, "%s.log", getenv("WTS_STUB"));
		FILE *out = fopen(log, "a");
		fprintf(out, "%s\n", what);
		fclose(out);
	}
	errno = e;
	return !e;
}

int WTSLogoffSession(void *server, int id, int wait) {
	char what[64];
	snprintf(what, sizeof what, "%d %d", id, wait);
	return act(id, "logoff=", what);
}
int WTSDisconnectSession(void *server, int id, int wait) {
	char what[64];
	snprintf(what, sizeof what, "disconnect %d %d", id, wait);
	return act(id, "act=", what);
}

/* narrow copies n bytes of UTF-16 as ASCII. */
static void narrow(char *to, int room, const wchar *w, int n) {
	int i = 0;
	for (; i < n / 2 && i < room - 1; i++) to[i] = w[i] < 127 && w[i] >= ' ' ? w[i] : '?';
	to[i] = 0;
}
static int wlen(const wchar *w) {
	int n = 0;
	while (w[n]) n++;
	return 2 * n;
}
int WTSSendMessageW(void *server, int id, wchar *title, int title_size, wchar *text, int text_size, int style, int seconds, int *response, int wait) {
	char what[4096], t[256], x[2048];
	narrow(t, sizeof t, title, title_size);
	narrow(x, sizeof x, text, text_size);
	snprintf(what, sizeof what, "message %d %d %d %d %s: %s", id, style, seconds, wait, t, x);
	return act(id, "act=", what);
}

/* Accounts and the users' registry. A key's handle is its user's RID. */
int LookupAccountNameW(wchar *system, wchar *account, unsigned char *sid, int *sid_size, wchar *domain, int *domain_size, int *use) {
	char name[256];
	narrow(name, sizeof name, account, wlen(account));
	file f = load();
	row *r = find(&f, "A", name);
	uint32_t parts[] = {21, 1, 2, 3, r ? atoi(r->f[2]) : 0};
	drop(&f);
	if (!parts[4] || *sid_size < 28) { errno = 1332; return 0; }
	memcpy(sid, "\1\5\0\0\0\0\0\5", 8);
	memcpy(sid + 8, parts, sizeof parts);
	*sid_size = 28;
	*domain_size = *use = 0;
	return 1;
}
int RegOpenKeyExW(void *key, wchar *path, int options, int access, void **opened) {
	char p[256], end[64];
	int rid = 0;
	narrow(p, sizeof p, path, wlen(path));
	if ((uint32_t)(intptr_t)key != 0x80000003 || access != 1 || sscanf(p, "S-1-5-21-1-2-3-%d%63s", &rid, end) != 2 || strcmp(end, "\\Software\\rdpbroker")) return 2;
	snprintf(p, sizeof p, "%d", rid);
	file f = load();
	int there = find(&f, "K", p) != NULL;
	drop(&f);
	*opened = (void *)(intptr_t)rid;
	return there ? 0 : 2;
}
int RegQueryValueExW(void *key, wchar *name, void *reserved, int *type, char *data, int *size) {
	char p[16], n[16];
	snprintf(p, sizeof p, "%d", (int)(intptr_t)key);
	narrow(n, sizeof n, name, wlen(name));
	file f = load();
	row *r = find(&f, "K", p);
	int e = !r || strcmp(n, "Keep") || !(*type = atoi(r->f[2])) ? 2 : 0;
	if (!e) {
		wchar *text = wides(r->f[3]);
		int need = wlen(text) + 2;
		if (need > *size) e = 234;
		else memcpy(data, text, need);
		*size = need;
		free(text);
	}
	drop(&f);
	return e;
}
int RegQueryInfoKeyW(void *key, void *a, void *b, void *c, void *d, void *e, void *g, void *h, void *i, void *j, void *k, int64_t *written) {
	char p[16];
	snprintf(p, sizeof p, "%d", (int)(intptr_t)key);
	file f = load();
	row *r = find(&f, "K", p);
	*written = r ? atoll(r->f[4]) : 0;
	drop(&f);
	return r ? 0 : 2;
}
int RegCloseKey(void *key) { return 0; }

static volatile int flush;

int WTSWaitSystemEvent(void *server, uint32_t mask, uint32_t *flags) {
	static struct stat last; /* what has happened between two calls is not lost here, unlike on Windows */
	static int known;
	if (mask & 0x80000000) {
		flush = 1;
		return 1;
	}
	for (;;) {
		struct stat now;
		struct timespec pause = {0, 2000000};
		if (flush) break;
		if (!stat(getenv("WTS_STUB"), &now)) {
			int same = known && now.st_ino == last.st_ino && now.st_mtim.tv_sec == last.st_mtim.tv_sec && now.st_mtim.tv_nsec == last.st_mtim.tv_nsec;
			last = now;
			if (!same && known && !setting("noevents", 0)) break;
			known = 1;
		}
		nanosleep(&pause, NULL);
	}
	*flags = 0x80;
	return 1;
}

int WTSGetActiveConsoleSessionId(void) { return setting("console", -1); }
int IsUserAnAdmin(void) { return setting("admin", 1); }
void *OpenProcess(uint32_t access, int inherit, int pid) {
	return access == 0x1000 ? (void *)(intptr_t)pid : NULL;
}
int GetProcessIoCounters(void *process, uint64_t *io) {
	io[3] = (uint64_t)(intptr_t)process; /* ReadTransferCount */
	io[4] = 1000;                        /* WriteTransferCount */
	return 1;
}
int CloseHandle(void *h) { return 1; }
