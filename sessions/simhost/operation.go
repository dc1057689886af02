package simhost

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minIdleTimeOut is the shortest IdleTimeOut that Windows takes.
const minIdleTimeOut = time.Minute

// answer does what a request asks for. What it finds is put together under
// s.mu and sent without, as a client may read slowly.
func (s *winrmServer) answer(a *answer, r *http.Request, who *Manager) {
	s.mu.Lock()
	s.reap()
	s.mu.Unlock()
	var action, body string
	var f *wsFault
	switch a.request.action {
	case ActionIdentify:
		action, body = nsIdentify+"/IdentifyResponse", fmt.Sprintf(
			`<wsmid:IdentifyResponse xmlns:wsmid="%s"><wsmid:ProtocolVersion>%s</wsmid:ProtocolVersion><wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor><wsmid:ProductVersion>OS: 10.0.17763 SP: 0.0 Stack: 3.0</wsmid:ProductVersion></wsmid:IdentifyResponse>`, nsIdentify, nsManage)
	case ActionCreate:
		action, body, f = s.create(a.request, r, who)
	case ActionEnumerate:
		action, body = nsEnum+"/EnumerateResponse", fmt.Sprintf(
			`<n:EnumerateResponse xmlns:n="%s"><n:EnumerationContext>uuid:%s</n:EnumerationContext></n:EnumerateResponse>`, nsEnum, newUUID())
	case ActionPull:
		action, body = s.pull(who)
	case ActionReceive:
		action, body, f = s.receive(r.Context(), a.request, who)
	default:
		action, body, f = s.act(a.request, who)
	}
	switch {
	case f != nil:
		a.fault(f)
	case action != "":
		a.ok(action, body)
	}
}

// reap ends the shells that nobody has used for too long. It needs s.mu.
func (s *winrmServer) reap() {
	now := s.model.clock()
	for _, sh := range s.shells {
		if sh.idle(now) {
			s.forget(sh)
		}
	}
}

// forget ends a shell and its commands. It needs s.mu.
func (s *winrmServer) forget(sh *shell) {
	delete(s.shells, sh.id)
	for _, c := range sh.commands {
		c.end()
	}
}

func (s *winrmServer) create(req *request, r *http.Request, who *Manager) (action, body string, f *wsFault) {
	if req.Body.Shell == nil || req.Header.ResourceURI != resourceCmd {
		return "", "", schemaFault("Create wants a Shell of " + resourceCmd)
	}
	idle := s.cfg.Quotas.IdleTimeout
	if text := strings.TrimSpace(req.Body.Shell.IdleTimeOut); text != "" {
		d, err := parseDuration(text)
		if err != nil || d < minIdleTimeOut {
			return "", "", schemaFault("IdleTimeOut must be an xs:duration of at least 60 s.")
		}
		idle = min(d, s.cfg.Quotas.IdleTimeout)
	}
	page := s.cfg.CodePage
	if n, err := strconv.Atoi(req.options["WINRS_CODEPAGE"]); err == nil {
		page = n
	}
	if _, ok := encodingOf(page); !ok {
		return "", "", &wsFault{code: 87, sender: true, subcode: "w:InvalidParameter", text: "The parameter is incorrect. "}
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	now := s.model.clock()
	sh := &shell{
		id: newUUID(), name: req.Body.Shell.Name, owner: who, clientIP: client,
		idleTimeout: idle, codePage: page, variables: map[string]string{}, created: now, lastUsed: now, commands: map[string]*command{},
	}
	for _, v := range req.Body.Shell.Variables {
		sh.variables[v.Name] = v.Value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shellsOf(who)) >= s.cfg.Quotas.ShellsPerUser || s.stopping {
		return "", "", shellQuota(s.cfg.Quotas.ShellsPerUser)
	}
	s.shells[sh.id] = sh
	return nsTransfer + "/CreateResponse", fmt.Sprintf(
		`<x:ResourceCreated><a:Address>http://%s/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>%s</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">%s</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>%s`,
		escape(r.Host), resourceCmd, sh.id, sh.xml(now)), nil
}

// xml is the shell as Create and Pull answer it.
func (sh *shell) xml(now time.Time) string {
	name := ""
	if sh.name != "" {
		name = "<rsp:Name>" + escape(sh.name) + "</rsp:Name>"
	}
	return fmt.Sprintf(`<rsp:Shell><rsp:ShellId>%s</rsp:ShellId>%s<rsp:ResourceUri>%s</rsp:ResourceUri><rsp:Owner>%s</rsp:Owner><rsp:ClientIP>%s</rsp:ClientIP><rsp:IdleTimeOut>%s</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams><rsp:ShellRunTime>%s</rsp:ShellRunTime><rsp:ShellInactivity>%s</rsp:ShellInactivity></rsp:Shell>`,
		sh.id, name, resourceCmd, escape(sh.owner.Account.String()), sh.clientIP, formatDuration(sh.idleTimeout),
		shellTime(now.Sub(sh.created)), shellTime(now.Sub(sh.lastUsed)))
}

// shellTime writes a run time as Windows does: "P0DT0H1M5S".
func shellTime(d time.Duration) string {
	s := int(d / time.Second)
	return fmt.Sprintf("P%dDT%dH%dM%dS", s/86400, s/3600%24, s/60%60, s%60)
}

// shellsOf are the shells of one user, oldest first. It needs s.mu.
func (s *winrmServer) shellsOf(who *Manager) []*shell {
	var list []*shell
	for _, sh := range s.shells {
		if sh.owner == who {
			list = append(list, sh)
		}
	}
	slices.SortFunc(list, func(a, b *shell) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return list
}

// pull lists the caller's shells, all of them at the first Pull.
func (s *winrmServer) pull(who *Manager) (action, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var items strings.Builder
	for _, sh := range s.shellsOf(who) {
		items.WriteString(sh.xml(s.model.clock()))
	}
	return nsEnum + "/PullResponse", fmt.Sprintf(
		`<n:PullResponse xmlns:n="%s"><n:Items>%s</n:Items><n:EndOfSequence></n:EndOfSequence></n:PullResponse>`, nsEnum, items.String())
}

// find is the shell that the request names, if it is the caller's, noted as
// used. It needs s.mu.
func (s *winrmServer) find(req *request, who *Manager) (*shell, *wsFault) {
	sh := s.shells[req.shellID]
	if sh == nil || sh.owner != who {
		return nil, noSuchShell(req.shellID)
	}
	sh.lastUsed = s.model.clock()
	return sh, nil
}

// act does the actions that answer at once.
func (s *winrmServer) act(req *request, who *Manager) (action, body string, f *wsFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh, f := s.find(req, who)
	if f != nil {
		return "", "", f
	}
	in := &req.Body
	switch {
	case req.action == ActionDelete:
		s.forget(sh)
		return nsTransfer + "/DeleteResponse", "", nil
	case req.action == ActionCommand && in.CommandLine != nil:
		return s.start(req, sh)
	case req.action == ActionSend && in.Send != nil:
		if s.cfg.Input == InputRefused {
			return "", "", inputRefused()
		}
		for _, stream := range in.Send.Streams {
			data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(stream.Data))
			c := sh.commands[stream.CommandID]
			if err != nil || c == nil {
				return "", "", noSuchShell(stream.CommandID)
			}
			c.input(data, stream.End)
		}
		return nsShell + "/SendResponse", `<rsp:SendResponse/>`, nil
	case req.action == ActionSignal && in.Signal != nil:
		c := sh.commands[in.Signal.CommandID]
		if c == nil {
			return "", "", noSuchShell(in.Signal.CommandID)
		}
		c.end()
		if strings.HasSuffix(strings.ToLower(strings.TrimSpace(in.Signal.Code)), "/terminate") {
			delete(sh.commands, c.id)
		}
		return nsShell + "/SignalResponse", `<rsp:SignalResponse/>`, nil
	default:
		return "", "", schemaFault("The body does not fit the action.")
	}
}

// start runs a command line. It needs s.mu.
func (s *winrmServer) start(req *request, sh *shell) (action, body string, f *wsFault) {
	operations := 0
	for _, other := range s.shellsOf(sh.owner) {
		operations += other.operations
	}
	if operations >= s.cfg.Quotas.OperationsPerUser {
		return "", "", operationQuota(s.cfg.Quotas.OperationsPerUser)
	}
	line := req.Body.CommandLine
	text := strings.Join(append([]string{line.Command}, line.Arguments...), " ")
	if len(text) > maxCommandLine {
		return "", "", &wsFault{code: faultCommandTooLong, subcode: "w:InternalError", text: "The filename or extension is too long. "}
	}
	c := newCommand()
	c.stdinEnd = s.cfg.Input == InputEmpty
	p := &console{host: s, who: sh.owner, command: c, encode: encoderOf(sh.codePage), variables: sh.variables}
	direct := strings.EqualFold(req.options["WINRS_SKIP_CMD_SHELL"], "TRUE")
	if direct && !p.exists(text) {
		return "", "", fileNotFound()
	}
	sh.operations++
	sh.commands[c.id] = c
	s.running.Go(func() {
		if s.cfg.OnCommand != nil {
			s.cfg.OnCommand(text)
		}
		code := uint32(0)
		if direct {
			code = p.program(text)
		} else {
			code = p.cmd(text, false)
		}
		select {
		case <-c.stop:
			code = exitControlC
		default:
		}
		c.finish(code)
	})
	return nsShell + "/CommandResponse", `<rsp:CommandResponse><rsp:CommandId>` + c.id + `</rsp:CommandId></rsp:CommandResponse>`, nil
}

// receive answers with output as soon as there is some, or with a fault when
// OperationTimeout has passed.
func (s *winrmServer) receive(ctx context.Context, req *request, who *Manager) (action, body string, f *wsFault) {
	c, f := s.listen(req, who)
	if f != nil {
		return "", "", f
	}
	defer s.listened(req.shellID)
	limit := s.cfg.Quotas.MaxTimeout
	if t := req.timeout; t > 0 {
		limit = min(limit, t)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if s.hasEnded(req, c) {
			return "", "", aborted()
		}
		s.mu.Lock()
		out, done, code, ok := c.take(s.split)
		s.mu.Unlock()
		if ok {
			return nsShell + "/ReceiveResponse", receiveXML(c.id, out, done, code), nil
		}
		select {
		case <-c.changed:
		case <-timer.C:
			return "", "", timedOut()
		case <-ctx.Done(): // the client is gone, or the host stops
			return "", "", nil
		}
	}
}

// listen finds the command that a Receive is about, and keeps its shell from
// idling out until listened is called.
func (s *winrmServer) listen(req *request, who *Manager) (*command, *wsFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh, f := s.find(req, who)
	if f != nil {
		return nil, f
	}
	if req.Body.Receive == nil {
		return nil, schemaFault("The body does not fit the action.")
	}
	id := req.Body.Receive.DesiredStream.CommandID
	c := sh.commands[id]
	if c == nil {
		return nil, noSuchShell(id)
	}
	sh.waiting++
	return c, nil
}

func (s *winrmServer) listened(shellID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.shells[shellID]; sh != nil {
		sh.waiting--
		sh.lastUsed = s.model.clock()
	}
}

// hasEnded is true if c or its shell was ended from outside while somebody waited.
func (s *winrmServer) hasEnded(req *request, c *command) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shells[req.shellID]
	return sh == nil || sh.commands[c.id] == nil
}

// receiveXML is the body of a ReceiveResponse, [MS-WSMV] 2.2.4.11 and 2.2.4.12.
func receiveXML(id string, out []chunk, done bool, code uint32) string {
	var b strings.Builder
	b.WriteString(`<rsp:ReceiveResponse>`)
	for _, c := range out {
		fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>`, c.stream, id, base64.StdEncoding.EncodeToString(c.data))
	}
	if !done {
		fmt.Fprintf(&b, `<rsp:CommandState CommandId="%s" State="%s/CommandState/Running"></rsp:CommandState>`, id, nsShell)
	} else {
		for _, stream := range []string{"stdout", "stderr"} {
			fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s" End="true"></rsp:Stream>`, stream, id)
		}
		fmt.Fprintf(&b, `<rsp:CommandState CommandId="%s" State="%s/CommandState/Done"><rsp:ExitCode>%d</rsp:ExitCode></rsp:CommandState>`, id, nsShell, code)
	}
	b.WriteString(`</rsp:ReceiveResponse>`)
	return b.String()
}
