package api_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzActions: whatever an action is asked with, the answer is one that the document
// describes, nothing goes wrong inside, and no session is logged off but by its key.
func FuzzActions(f *testing.F) {
	key := keys()["ts1/4"]
	f.Add("sessions/ts1/4/logoff", `{"key":"`+key+`"}`)
	f.Add("sessions/ts1/4/keep", `{"for":"8h","key":"x"}`)
	f.Add("sessions/ts1/3/message", `{"text":"hello","title":"IT"}`)
	f.Add("hosts/ts1/message", `{"text":"hello"}`)
	f.Add("hosts/ts1/drain", ``)
	f.Add("eviction", `{"mode":"on"}`)
	f.Add("reload", `{"dry_run":true} {}`)
	f.Add("sessions/ts1/99999999999999999999/unkeep", `[]`)
	f.Fuzz(func(t *testing.T, path, body string) {
		u := &url.URL{Path: "/api/v1/" + path}
		req, err := http.NewRequest(http.MethodPost, u.String(), strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/json")
		var d did
		res := httptest.NewRecorder()
		handler(config(&d)).ServeHTTP(res, req)
		asked := strings.Join(d.what, "; ")
		if res.Code == http.StatusInternalServerError && !strings.Contains(asked, "broken") {
			t.Errorf("%s %s: %d %s", path, body, res.Code, res.Body)
		}
		if strings.Contains(asked, "logoff") && (!strings.Contains(body, key) || !strings.Contains(asked, "ts1/4")) {
			t.Errorf("%s %s: %s", path, body, asked)
		}
	})
}
