/* The structures of wtsapi32.h as a compiler lays them out, against the offsets
 * that agent.cs computes from the size of a pointer. Compiled for 32 and 64 bits
 * with the alignment of Windows (-malign-double), never run. */
#include <stddef.h>
#include <stdint.h>

#define P sizeof(void *)
#define STRINGS (P == 8 ? 16 : 12) /* as in Enumerate */
#define COUNTERS (8 + 2 * P)       /* as in ReadWork */
#define IS(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field)

typedef uint16_t wchar;
typedef struct {
	uint32_t ExecEnvId;
	int State;
	uint32_t SessionId;
	wchar *pSessionName, *pHostName, *pUserName, *pDomainName, *pFarmName;
} WTS_SESSION_INFO_1W;
IS(WTS_SESSION_INFO_1W, State, 4);
IS(WTS_SESSION_INFO_1W, SessionId, 8);
IS(WTS_SESSION_INFO_1W, pSessionName, STRINGS);
IS(WTS_SESSION_INFO_1W, pUserName, STRINGS + 2 * P);
IS(WTS_SESSION_INFO_1W, pDomainName, STRINGS + 3 * P);
_Static_assert(sizeof(WTS_SESSION_INFO_1W) == STRINGS + 5 * P, "size");

typedef struct {
	uint32_t SessionId, ProcessId;
	wchar *pProcessName;
	void *pUserSid;
	uint32_t NumberOfThreads, HandleCount, PagefileUsage, PeakPagefileUsage, WorkingSetSize, PeakWorkingSetSize;
	int64_t UserTime, KernelTime;
} WTS_PROCESS_INFO_EXW;
IS(WTS_PROCESS_INFO_EXW, pProcessName, 8);
IS(WTS_PROCESS_INFO_EXW, NumberOfThreads, COUNTERS);
IS(WTS_PROCESS_INFO_EXW, UserTime, COUNTERS + 24);
IS(WTS_PROCESS_INFO_EXW, KernelTime, COUNTERS + 32);
_Static_assert(sizeof(WTS_PROCESS_INFO_EXW) == COUNTERS + 6 * 4 + 2 * 8, "size");

typedef struct {
	uint32_t Level;
	struct {
		uint32_t SessionId;
		int SessionState;
		int32_t SessionFlags;
		wchar WinStationName[33], UserName[21], DomainName[18];
		int64_t LogonTime, ConnectTime, DisconnectTime, LastInputTime, CurrentTime;
		uint32_t IncomingBytes, OutgoingBytes, IncomingFrames, OutgoingFrames, IncomingCompressedBytes, OutgoingCompressedBytes;
	} Data;
} WTSINFOEXW;
IS(WTSINFOEXW, Data.SessionId, 8);
IS(WTSINFOEXW, Data.SessionState, 12);
IS(WTSINFOEXW, Data.WinStationName, 20);
IS(WTSINFOEXW, Data.UserName, 86);
IS(WTSINFOEXW, Data.DomainName, 128);
IS(WTSINFOEXW, Data.LogonTime, 168);
IS(WTSINFOEXW, Data.DisconnectTime, 184);
IS(WTSINFOEXW, Data.LastInputTime, 192);
IS(WTSINFOEXW, Data.CurrentTime, 200);
_Static_assert(sizeof(WTSINFOEXW) == 232, "size");

typedef struct {
	uint64_t ReadOperationCount, WriteOperationCount, OtherOperationCount, ReadTransferCount, WriteTransferCount, OtherTransferCount;
} IO_COUNTERS;
IS(IO_COUNTERS, ReadTransferCount, 24);
IS(IO_COUNTERS, WriteTransferCount, 32);
_Static_assert(sizeof(IO_COUNTERS) == 48, "size");
