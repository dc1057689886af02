<#
.SYNOPSIS
Prepares a Windows host for rdpbroker: WinRM over HTTPS, and an account with no
more rights than the broker needs. -Undo takes back exactly what was done.

.DESCRIPTION
UNTESTED ON A REAL WINDOWS HOST. It is put together from Microsoft's
documentation of the cmdlets and classes it uses, and its grammar has been
checked; nobody has reported a run yet. Try it on a host that nobody needs, run
it with -WhatIf first, and tell us what happened.

What it does, each step only where it is not done already:

  1. the WinRM service runs, and starts with Windows
  2. a certificate: the one that you name, or a self-signed one
  3. an HTTPS listener of WinRM on port 5986 with that certificate
  4. a firewall rule that lets the broker's address in to that port, nobody else
  5. the account may open a remote shell: one entry in WinRM's RootSDDL
  6. the account may see the sessions on RDP-Tcp and on the console, and, unless
     -NoEviction, log them off and send messages; it may not log on itself
  7. the certificate that the broker has to trust, as a PEM file

The account is not made a member of any group, and no password is set. It must
exist. Rights on sessions hold for sessions that begin after the change.

What was changed, and what it was before, is kept in
%ProgramData%\rdpbroker-prepare-host\changes.json, for administrators only.

.PARAMETER Account
The broker's account on this host: DOMAIN\user, user@domain, or HOST\user.

.PARAMETER BrokerAddress
The IP address or addresses of the broker, or networks such as 192.0.2.0/28:
whom the firewall lets in.

.PARAMETER CertificateThumbprint
A certificate in Cert:\LocalMachine\My with its private key, for server
authentication. An existing HTTPS listener is given this one.

.PARAMETER SelfSigned
Makes a certificate for -DnsName, valid for two years (one on Windows Server 2012 R2). An existing HTTPS listener
keeps the one that it has.

.PARAMETER DnsName
The names that the broker will reach this host by; the first also goes into
broker.yaml. Without it, the host's own full name.

.PARAMETER NoEviction
The account may see sessions and nothing else: nobody is ever logged off here.

.PARAMETER OutputDirectory
Where the PEM file is written; the current folder without it.

.PARAMETER Undo
Takes back what earlier runs on this host have changed, and nothing else.

.EXAMPLE
.\prepare-host.ps1 -Account CONTOSO\svc-rdpbroker -BrokerAddress 192.0.2.10 -SelfSigned -DnsName ts1.contoso.example -WhatIf

Tells what would be done.

.EXAMPLE
.\prepare-host.ps1 -Account CONTOSO\svc-rdpbroker -BrokerAddress 192.0.2.10 -CertificateThumbprint 0123456789ABCDEF0123456789ABCDEF01234567

Uses a certificate of your own authority.

.EXAMPLE
.\prepare-host.ps1 -Undo

.NOTES
Windows PowerShell 5.1, elevated; no modules but those of Windows. Apache-2.0.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium', DefaultParameterSetName = 'SelfSigned')]
param(
    [Parameter(Mandatory = $true, ParameterSetName = 'SelfSigned')]
    [Parameter(Mandatory = $true, ParameterSetName = 'Thumbprint')]
    [ValidateNotNullOrEmpty()]
    [string]$Account,

    [Parameter(Mandatory = $true, ParameterSetName = 'SelfSigned')]
    [Parameter(Mandatory = $true, ParameterSetName = 'Thumbprint')]
    [ValidateNotNullOrEmpty()]
    [string[]]$BrokerAddress,

    [Parameter(Mandatory = $true, ParameterSetName = 'Thumbprint')]
    [ValidatePattern('^[0-9A-Fa-f ]{40,}$')]
    [string]$CertificateThumbprint,

    [Parameter(Mandatory = $true, ParameterSetName = 'SelfSigned')]
    [switch]$SelfSigned,

    [Parameter(ParameterSetName = 'SelfSigned')]
    [Parameter(ParameterSetName = 'Thumbprint')]
    [string[]]$DnsName,

    [Parameter(ParameterSetName = 'SelfSigned')]
    [Parameter(ParameterSetName = 'Thumbprint')]
    [switch]$NoEviction,

    [Parameter(ParameterSetName = 'SelfSigned')]
    [Parameter(ParameterSetName = 'Thumbprint')]
    [string]$OutputDirectory = '.',

    [Parameter(Mandatory = $true, ParameterSetName = 'Undo')]
    [switch]$Undo
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$StateDirectory = Join-Path $env:ProgramData 'rdpbroker-prepare-host'
$StateFile = Join-Path $StateDirectory 'changes.json'
$RuleName = 'rdpbroker-winrm-https'
$RootSddlPath = 'WSMan:\localhost\Service\RootSDDL'
$Namespace = 'root/cimv2/TerminalServices'
$Terminals = 'RDP-Tcp', 'Console'

# GENERIC_READ and GENERIC_EXECUTE, which RootSDDL writes as GXGR. As a number
# below zero, because access masks are signed here.
$ShellMask = -1610612736
$GenericAll = 0x10000000

# Indexes of ModifyPermissions of Win32_TSAccount, not bits. Their bits in
# PermissionsAllowed are shifted by the index; the one of virtual channels, which
# is not used here, is another.
$Query, $Logoff, $Logon, $Reset, $Message, $Disconnect = 0, 2, 5, 6, 7, 9

function Write-Step([string]$Text) { Write-Host "* $Text" }
function Write-Done([string]$Text) { Write-Host "  $Text" }

# --- What was changed, and what it was before ---

function Get-EmptyState {
    [pscustomobject]@{
        Version            = 1
        Account            = ''
        Sid                = ''
        ServiceStartType   = ''      # before; empty: not changed
        ServiceStarted     = $false
        CertificateCreated = ''      # thumbprint
        ListenerCreated    = $false
        ListenerThumbprint = ''      # before; empty: not changed
        FirewallRule       = $false
        RootSddlBefore     = ''      # for people; undoing takes the one entry out
        RootSddlEntry      = $false
        Terminals          = @()     # Name, Added, Before, After
    }
}

# Everybody may create folders in ProgramData. What -Undo believes must therefore
# belong to administrators.
function Assert-OwnedByAdministrators([string]$Path) {
    $owner = (Get-Acl -LiteralPath $Path).GetOwner([System.Security.Principal.SecurityIdentifier]).Value
    if ('S-1-5-32-544', 'S-1-5-18' -notcontains $owner) {
        throw "$Path belongs to $owner and not to the administrators; somebody else may have made it. Look into it, and remove it."
    }
}

function Read-State {
    if (-not (Test-Path -LiteralPath $StateFile)) { return Get-EmptyState }
    Assert-OwnedByAdministrators $StateDirectory
    Assert-OwnedByAdministrators $StateFile
    $state = Get-Content -LiteralPath $StateFile -Raw | ConvertFrom-Json
    if ($state.Version -ne 1) { throw "$StateFile was written by another version of this script." }
    $state.Terminals = @($state.Terminals)
    return $state
}

# It is called before each change, so that one which fails half-way can be undone.
# Like all functions with "Confirmed" in their name it asks nobody: its callers did.
function Save-ConfirmedState($State) {
    if (-not (Test-Path -LiteralPath $StateDirectory)) {
        New-Item -ItemType Directory -Path $StateDirectory -Confirm:$false | Out-Null
        $acl = New-Object System.Security.AccessControl.DirectorySecurity
        $acl.SetSecurityDescriptorSddlForm('O:BAG:BAD:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)')
        Set-Acl -LiteralPath $StateDirectory -AclObject $acl -Confirm:$false
    }
    Assert-OwnedByAdministrators $StateDirectory
    ConvertTo-Json -InputObject $State -Depth 4 | Set-Content -LiteralPath $StateFile -Encoding UTF8 -Confirm:$false
    $owned = New-Object System.Security.AccessControl.FileSecurity
    $owned.SetSecurityDescriptorSddlForm('O:BAG:BAD:PAI(A;;FA;;;BA)(A;;FA;;;SY)')
    Set-Acl -LiteralPath $StateFile -AclObject $owned -Confirm:$false
}

# --- Looking ---

# Nothing while WinRM does not run: its drive cannot be read then.
function Get-HttpsListener {
    if ((Get-Service -Name WinRM).Status -ne 'Running') { return }
    Get-ChildItem -Path WSMan:\localhost\Listener | Where-Object { $_.Keys -contains 'Transport=HTTPS' } | Select-Object -First 1
}

function Get-ListenerThumbprint($Listener) {
    $item = Get-ChildItem -Path "WSMan:\localhost\Listener\$($Listener.Name)" | Where-Object { $_.Name -eq 'CertificateThumbprint' }
    return ($item.Value -replace '\s', '').ToUpperInvariant()
}

function Get-HostCertificate([string]$Thumbprint) {
    $path = "Cert:\LocalMachine\My\$Thumbprint"
    if (-not $Thumbprint -or -not (Test-Path -LiteralPath $path)) { return $null }
    return Get-Item -LiteralPath $path
}

function Assert-Usable($Certificate, [string]$Thumbprint) {
    if ($null -eq $Certificate) { throw "There is no certificate $Thumbprint in Cert:\LocalMachine\My." }
    if (-not $Certificate.HasPrivateKey) { throw "Certificate $Thumbprint has no private key here." }
    $now = Get-Date
    if ($Certificate.NotBefore -gt $now -or $Certificate.NotAfter -lt $now) { throw "Certificate $Thumbprint is not valid now." }
    $uses = @($Certificate.EnhancedKeyUsageList | ForEach-Object { $_.ObjectId })
    if ($uses.Count -gt 0 -and $uses -notcontains '1.3.6.1.5.5.7.3.1') { throw "Certificate $Thumbprint is not for server authentication." }
}

function Get-Terminal([string]$Name) {
    Get-CimInstance -Namespace $Namespace -ClassName Win32_TSPermissionsSetting -Filter "TerminalName='$Name'"
}

function Get-TerminalAccount([string]$Name, [string]$Sid, [string]$AccountName) {
    Get-CimInstance -Namespace $Namespace -ClassName Win32_TSAccount -Filter "TerminalName='$Name'" |
        Where-Object { $_.SID -eq $Sid -or $_.AccountName -eq $AccountName } | Select-Object -First 1
}

# The one entry that gives the account its shell: its index in the list, or -1.
function Find-ShellEntry($Descriptor, $Sid, [int[]]$Masks) {
    for ($i = 0; $i -lt $Descriptor.DiscretionaryAcl.Count; $i++) {
        $ace = $Descriptor.DiscretionaryAcl[$i]
        if ($ace -isnot [System.Security.AccessControl.CommonAce]) { continue }
        if ($ace.AceQualifier -ne [System.Security.AccessControl.AceQualifier]::AccessAllowed) { continue }
        if ($ace.SecurityIdentifier -ne $Sid) { continue }
        foreach ($mask in $Masks) {
            if (($ace.AccessMask -band $mask) -eq $mask) { return $i }
        }
    }
    return -1
}

# --- Doing: one function per step ---

function Enable-Service($State) {
    Write-Step 'The WinRM service runs, and starts with Windows.'
    $service = Get-Service -Name WinRM
    if ($service.StartType -ne 'Automatic' -and $PSCmdlet.ShouldProcess('WinRM', 'Start with Windows')) {
        $State.ServiceStartType = [string]$service.StartType
        Save-ConfirmedState $State
        Set-Service -Name WinRM -StartupType Automatic -Confirm:$false
        Write-Done "It was: $($State.ServiceStartType)."
    }
    if ($service.Status -ne 'Running' -and $PSCmdlet.ShouldProcess('WinRM', 'Start the service')) {
        $State.ServiceStarted = $true
        Save-ConfirmedState $State
        Start-Service -Name WinRM -Confirm:$false
        Write-Done 'Started.'
    }
}

# The certificate to be used: an existing listener's, unless one was named.
function Resolve-Certificate($State, [string[]]$Names) {
    Write-Step 'A certificate for WinRM.'
    if ($CertificateThumbprint) {
        $thumbprint = ($CertificateThumbprint -replace '\s', '').ToUpperInvariant()
        $certificate = Get-HostCertificate $thumbprint
        Assert-Usable $certificate $thumbprint
        Write-Done "$($certificate.Subject), until $($certificate.NotAfter)."
        return $certificate
    }
    $listener = Get-HttpsListener
    if ($listener) {
        $certificate = Get-HostCertificate (Get-ListenerThumbprint $listener)
        if ($certificate -and $certificate.NotAfter -gt (Get-Date)) {
            Write-Done "The HTTPS listener has one: $($certificate.Subject), until $($certificate.NotAfter). It stays."
            return $certificate
        }
        throw 'There is an HTTPS listener without a valid certificate. Name one with -CertificateThumbprint, or remove the listener.'
    }
    $certificate = Get-HostCertificate $State.CertificateCreated
    if ($certificate -and $certificate.NotAfter -gt (Get-Date)) {
        Write-Done 'The one of an earlier run.'
        return $certificate
    }
    if ($PSCmdlet.ShouldProcess('Cert:\LocalMachine\My', "Make a self-signed certificate for $($Names -join ', ')")) {
        $settings = @{ DnsName = $Names; CertStoreLocation = 'Cert:\LocalMachine\My'; Confirm = $false }
        if ((Get-Command -Name New-SelfSignedCertificate).Parameters.ContainsKey('NotAfter')) { # not on Windows Server 2012 R2
            $settings.NotAfter = (Get-Date).AddYears(2)
        }
        $certificate = New-SelfSignedCertificate @settings
        $State.CertificateCreated = $certificate.Thumbprint
        Save-ConfirmedState $State
        Write-Done "Made $($certificate.Thumbprint) for $($Names -join ', ')."
        return $certificate
    }
    return $null
}

function Enable-Listener($State, $Certificate) {
    Write-Step 'An HTTPS listener of WinRM on port 5986.'
    if ($null -eq $Certificate) { # -WhatIf, and there is none yet
        Write-Done 'It would be made with the new certificate.'
        return
    }
    $listener = Get-HttpsListener
    if (-not $listener) {
        if ($PSCmdlet.ShouldProcess('WinRM', "Make an HTTPS listener with certificate $($Certificate.Thumbprint)")) {
            $State.ListenerCreated = $true
            Save-ConfirmedState $State
            New-Item -Path WSMan:\localhost\Listener -Transport HTTPS -Address * -CertificateThumbPrint $Certificate.Thumbprint -Force -Confirm:$false | Out-Null
            Write-Done 'Made.'
        }
        return
    }
    $before = Get-ListenerThumbprint $listener
    if ($before -eq $Certificate.Thumbprint) {
        Write-Done 'It is there.'
        return
    }
    if ($PSCmdlet.ShouldProcess("HTTPS listener $($listener.Name)", "Change its certificate from $before to $($Certificate.Thumbprint)")) {
        if (-not $State.ListenerCreated -and -not $State.ListenerThumbprint) {
            $State.ListenerThumbprint = $before
            Save-ConfirmedState $State
        }
        Set-Item -Path "WSMan:\localhost\Listener\$($listener.Name)\CertificateThumbprint" -Value $Certificate.Thumbprint -Force -Confirm:$false
        Write-Done "Its certificate was $before."
    }
}

function Enable-Firewall($State) {
    Write-Step "The firewall lets $($BrokerAddress -join ', ') in to port 5986."
    $rule = Get-NetFirewallRule -Name $RuleName -ErrorAction SilentlyContinue
    if (-not $rule) {
        if ($PSCmdlet.ShouldProcess($RuleName, 'Make a firewall rule')) {
            $State.FirewallRule = $true
            Save-ConfirmedState $State
            New-NetFirewallRule -Name $RuleName -DisplayName 'WinRM over HTTPS for rdpbroker' -Direction Inbound -Protocol TCP `
                -LocalPort 5986 -RemoteAddress $BrokerAddress -Action Allow -Profile Any -Confirm:$false | Out-Null
            Write-Done 'Made. Other rules for this port, if there are any, are not changed.'
        }
        return
    }
    $allowed = @(($rule | Get-NetFirewallAddressFilter).RemoteAddress)
    if (@(Compare-Object $allowed $BrokerAddress).Count -eq 0) {
        Write-Done 'It does already.'
    } elseif ($PSCmdlet.ShouldProcess($RuleName, "Change its addresses from $($allowed -join ', ')")) {
        Set-NetFirewallRule -Name $RuleName -RemoteAddress $BrokerAddress -Confirm:$false
        Write-Done "It let $($allowed -join ', ') in."
    }
}

function Grant-Shell($State, $Sid) {
    Write-Step 'The account may open a remote shell (WinRM, RootSDDL).'
    if ((Get-Service -Name WinRM).Status -ne 'Running') { # -WhatIf: its settings cannot be read
        Write-Done 'To be seen when WinRM runs.'
        return
    }
    $before = (Get-Item -Path $RootSddlPath).Value
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor $before
    if ((Find-ShellEntry $descriptor $Sid @($ShellMask, $GenericAll)) -ge 0) {
        Write-Done 'It may.'
        return
    }
    if ($PSCmdlet.ShouldProcess('WinRM RootSDDL', "Add (A;;GXGR;;;$Sid)")) {
        $ace = New-Object System.Security.AccessControl.CommonAce ([System.Security.AccessControl.AceFlags]::None),
            ([System.Security.AccessControl.AceQualifier]::AccessAllowed), $ShellMask, $Sid, $false, $null
        $descriptor.DiscretionaryAcl.InsertAce($descriptor.DiscretionaryAcl.Count, $ace)
        $State.RootSddlBefore = $before
        $State.RootSddlEntry = $true
        Save-ConfirmedState $State
        Set-Item -Path $RootSddlPath -Value $descriptor.GetSddlForm([System.Security.AccessControl.AccessControlSections]::All) -Force -Confirm:$false
        Write-Done "Added; it was $before"
        Write-Done 'If the broker is still refused (error 5): Restart-Service WinRM, which ends the remote shells of others.'
    }
}

function Invoke-ConfirmedMethod($Object, [string]$Method, [hashtable]$Arguments) {
    $result = Invoke-CimMethod -InputObject $Object -MethodName $Method -Arguments $Arguments -Confirm:$false
    if ($result.ReturnValue -ne 0) { throw "$Method on $($Object.TerminalName) failed: $($result.ReturnValue)" }
}

function Grant-Session($State, [string]$Name, $Sid, [string]$AccountName) {
    $allow = @($Query)
    if (-not $NoEviction) { $allow = $Query, $Logoff, $Reset, $Message, $Disconnect }
    Write-Step "The account may see the sessions of $Name$(if (-not $NoEviction) { ', log them off and send messages' })."
    $terminal = Get-Terminal $Name
    if (-not $terminal) {
        Write-Warning "This host has no permissions for $Name (Win32_TSPermissionsSetting): skipped."
        return
    }
    if ($terminal.DenyAdminPermissionForCustomization -eq 1) {
        throw 'A policy forbids to change the permissions: "Do not allow local administrators to customize permissions" (Remote Desktop Session Host, Security).'
    }
    $entry = Get-TerminalAccount $Name $Sid.Value $AccountName
    $missing = @($allow)
    if ($entry) {
        $missing = @($allow | Where-Object { ($entry.PermissionsAllowed -band (1 -shl $_)) -eq 0 })
        if ($NoEviction -and ($entry.PermissionsAllowed -band ((1 -shl $Logoff) -bor (1 -shl $Reset)))) {
            Write-Warning "It may also log off sessions of $Name, from before. Run -Undo first if it should not, or see who gave it that."
        }
        if ($missing.Count -eq 0) {
            Write-Done 'It may.'
            return
        }
    }
    if ($PSCmdlet.ShouldProcess($Name, "Give $AccountName the permissions $($missing -join ', ')$(if (-not $entry) { ' and deny it to log on' })")) {
        Set-ConfirmedPermission $State $terminal $entry $missing $Sid.Value $AccountName
        Write-Done 'Done; it holds for sessions that begin from now on.'
    }
}

function Set-ConfirmedPermission($State, $Terminal, $Entry, [int[]]$Missing, [string]$Sid, [string]$AccountName) {
    $name = $Terminal.TerminalName
    $note = @($State.Terminals | Where-Object { $_.Name -eq $name }) | Select-Object -First 1
    if (-not $note) {
        $note = [pscustomobject]@{ Name = $name; Added = (-not $Entry); Before = [string]$Terminal.StringSecurityDescriptor; After = '' }
        $State.Terminals = @($State.Terminals) + $note
    }
    Save-ConfirmedState $State
    $added = -not $Entry
    if ($added) {
        # Preset 0, guest, is the right to log on and nothing else; it is denied below.
        Invoke-ConfirmedMethod $Terminal 'AddAccount' @{ AccountName = $AccountName; PermissionPreSet = [uint32]0 }
        $Entry = Get-TerminalAccount $name $Sid $AccountName
        if (-not $Entry) { throw "$AccountName was added to $name and is not there." }
        Invoke-ConfirmedMethod $Entry 'ModifyPermissions' @{ PermissionMask = [uint32]$Logon; Allow = $false }
    }
    foreach ($permission in $Missing) {
        Invoke-ConfirmedMethod $Entry 'ModifyPermissions' @{ PermissionMask = [uint32]$permission; Allow = $true }
    }
    $note.After = [string](Get-Terminal $name).StringSecurityDescriptor
    Save-ConfirmedState $State
}

# What the broker has to trust: the authorities above the certificate, or the
# certificate itself if there are none.
function Export-Trust($Certificate, [string]$Path) {
    Write-Step 'The certificate for the broker.'
    if ($null -eq $Certificate) {
        Write-Done 'It would be written with the new certificate.'
        return
    }
    $chain = New-Object System.Security.Cryptography.X509Certificates.X509Chain
    $chain.ChainPolicy.RevocationMode = [System.Security.Cryptography.X509Certificates.X509RevocationMode]::NoCheck
    [void]$chain.Build($Certificate)
    $trust = @($chain.ChainElements | ForEach-Object { $_.Certificate } | Select-Object -Skip 1)
    if ($trust.Count -eq 0) { $trust = @($Certificate) }
    $lines = foreach ($c in $trust) {
        "# $($c.Subject)"
        '-----BEGIN CERTIFICATE-----'
        [System.Convert]::ToBase64String($c.RawData, [System.Base64FormattingOptions]::InsertLineBreaks)
        '-----END CERTIFICATE-----'
    }
    if ($PSCmdlet.ShouldProcess($Path, 'Write the PEM file')) {
        Set-Content -LiteralPath $Path -Value $lines -Encoding Ascii -Confirm:$false
        Write-Done "Written to $Path. On the broker, append it to the file that ca_file names."
    }
}

# --- Undoing, in the opposite order ---

function Undo-Session($State) {
    $sid = New-Object System.Security.Principal.SecurityIdentifier $State.Sid
    foreach ($note in @($State.Terminals)) {
        Write-Step "The permissions of $($State.Account) on $($note.Name)."
        if ($note.Added) {
            $entry = Get-TerminalAccount $note.Name $sid.Value $State.Account
            if (-not $entry) {
                Write-Done 'Its entry is gone already.'
            } elseif ($PSCmdlet.ShouldProcess($note.Name, "Remove the entry of $($State.Account)")) {
                Invoke-ConfirmedMethod $entry 'Delete' @{}
                Write-Done 'Its entry is gone.'
            }
        } else {
            $terminal = Get-Terminal $note.Name
            if ($terminal.StringSecurityDescriptor -eq $note.Before) {
                Write-Done 'They are what they were.'
            } elseif ($terminal.StringSecurityDescriptor -ne $note.After) {
                Write-Warning "The account had permissions of its own, and somebody has changed them since: left as they are. Before: $($note.Before)"
            } elseif ($PSCmdlet.ShouldProcess($note.Name, 'Write back the permissions of before')) {
                Set-CimInstance -InputObject $terminal -Property @{ StringSecurityDescriptor = $note.Before } -Confirm:$false
                Write-Done 'They are what they were.'
            }
        }
    }
}

function Undo-Shell($State) {
    if (-not $State.RootSddlEntry) { return }
    Write-Step 'The entry in WinRM RootSDDL.'
    $sid = New-Object System.Security.Principal.SecurityIdentifier $State.Sid
    $descriptor = New-Object System.Security.AccessControl.RawSecurityDescriptor ((Get-Item -Path $RootSddlPath).Value)
    $index = Find-ShellEntry $descriptor $sid @($ShellMask)
    if ($index -ge 0 -and $descriptor.DiscretionaryAcl[$index].AccessMask -eq $ShellMask) {
        if ($PSCmdlet.ShouldProcess('WinRM RootSDDL', "Take out (A;;GXGR;;;$sid)")) {
            $descriptor.DiscretionaryAcl.RemoveAce($index)
            Set-Item -Path $RootSddlPath -Value $descriptor.GetSddlForm([System.Security.AccessControl.AccessControlSections]::All) -Force -Confirm:$false
            Write-Done 'Taken out.'
        }
    } else {
        Write-Done 'It is not there any more.'
    }
}

function Undo-Network($State) {
    if ($State.FirewallRule) {
        Write-Step 'The firewall rule.'
        if (Get-NetFirewallRule -Name $RuleName -ErrorAction SilentlyContinue) {
            if ($PSCmdlet.ShouldProcess($RuleName, 'Remove the firewall rule')) { Remove-NetFirewallRule -Name $RuleName -Confirm:$false }
        }
    }
    $listener = Get-HttpsListener
    if ($State.ListenerCreated -and $listener) {
        Write-Step 'The HTTPS listener.'
        if ($PSCmdlet.ShouldProcess($listener.Name, 'Remove the HTTPS listener')) {
            Remove-Item -Path "WSMan:\localhost\Listener\$($listener.Name)" -Recurse -Force -Confirm:$false
        }
    } elseif ($State.ListenerThumbprint -and $listener) {
        Write-Step 'The certificate of the HTTPS listener.'
        if ($PSCmdlet.ShouldProcess($listener.Name, "Give it back certificate $($State.ListenerThumbprint)")) {
            Set-Item -Path "WSMan:\localhost\Listener\$($listener.Name)\CertificateThumbprint" -Value $State.ListenerThumbprint -Force -Confirm:$false
        }
    }
    if (Get-HostCertificate $State.CertificateCreated) {
        Write-Step 'The self-signed certificate.'
        if ($PSCmdlet.ShouldProcess($State.CertificateCreated, 'Remove the certificate and its key')) {
            Remove-Item -LiteralPath "Cert:\LocalMachine\My\$($State.CertificateCreated)" -DeleteKey -Confirm:$false
        }
    }
}

function Undo-Service($State) {
    if ($State.ServiceStarted) {
        Write-Step 'The WinRM service.'
        if ($PSCmdlet.ShouldProcess('WinRM', 'Stop the service')) { Stop-Service -Name WinRM -Confirm:$false }
    }
    if ($State.ServiceStartType -and $PSCmdlet.ShouldProcess('WinRM', "Start type $($State.ServiceStartType)")) {
        Set-Service -Name WinRM -StartupType $State.ServiceStartType -Confirm:$false
    }
}

function Undo-Everything {
    if (-not (Test-Path -LiteralPath $StateFile)) {
        Write-Host "Nothing to undo: there is no $StateFile."
        return
    }
    $state = Read-State
    if ((Get-Service -Name WinRM).Status -ne 'Running') {
        throw 'WinRM does not run, so its settings cannot be changed back. Start-Service WinRM, then try again.'
    }
    Undo-Session $state
    Undo-Shell $state
    Undo-Network $state
    Undo-Service $state
    if ($PSCmdlet.ShouldProcess($StateFile, 'Forget what was changed')) {
        Remove-Item -LiteralPath $StateFile -Confirm:$false
        Write-Host 'Undone. What was left as it is stands above as a warning.'
    }
}

# --- The run ---

if ($Undo) {
    Undo-Everything
    return
}

$sid = (New-Object System.Security.Principal.NTAccount $Account).Translate([System.Security.Principal.SecurityIdentifier])
$accountName = $sid.Translate([System.Security.Principal.NTAccount]).Value
$names = @($DnsName | Where-Object { $_ })
if ($names.Count -eq 0) { $names = @([System.Net.Dns]::GetHostEntry('').HostName) }

$state = Read-State
if ($state.Sid -and $state.Sid -ne $sid.Value) {
    throw "This host was prepared for $($state.Account). Take that back first: $($MyInvocation.MyCommand.Name) -Undo"
}
$state.Account = $accountName
$state.Sid = $sid.Value

Enable-Service $state
$certificate = Resolve-Certificate $state $names
Enable-Listener $state $certificate
Enable-Firewall $state
Grant-Shell $state $sid
foreach ($terminalName in $Terminals) { Grant-Session $state $terminalName $sid $accountName }
Export-Trust $certificate (Join-Path (Resolve-Path -LiteralPath $OutputDirectory).ProviderPath "$($names[0]).pem")

Write-Host ''
Write-Host 'For broker.yaml; then, on the broker: rdpbroker doctor -c broker.yaml'
@"
      - name: $($env:COMPUTERNAME.ToLowerInvariant())
        address: $($names[0])
        slots: 2                      # as many sessions as this host takes
        winrm:
          user: '$accountName'
          password_file: /etc/rdpbroker/winrm.password
          ca_file: /etc/rdpbroker/ca.pem
          text_eviction: $(if ($NoEviction) { 'false' } else { 'true' })
"@
