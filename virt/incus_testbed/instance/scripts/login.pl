# SPDX-License-Identifier: GPL-3.0-or-later
#
# Gives this process the environment of a login; it precedes exec.pl and run.pl.
#
# The first argument is login.sh.  It runs as that user.  Because it takes
# longer than most commands, its answer is kept until one of the files that it
# reads changes.  Other files that these files read are not watched.

use strict;

my $login_script = shift @ARGV;

# Seconds that the guest's files may take; after that their result is ignored.
my $login_limit = 10;
my @login_files = qw(/etc/environment /etc/default/locale /etc/profile);
my $login_folder = '/etc/profile.d';

# Returns name, uid, gid, home, shell and groups; nothing if there is no such
# user.
sub user_of {
    my ($user) = @_;
    my ($name, $uid, $gid, $home, $shell) = (getpwnam $user)[0, 2, 3, 7, 8];
    return unless defined $name;
    my @groups;
    while (my @group = getgrent) {
        push @groups, $group[2] if grep { $_ eq $name } split ' ', $group[3];
    }
    return {
        name => $name, uid => $uid, gid => $gid, groups => "@groups",
        home => $home, shell => $shell || '/bin/sh',
    };
}

sub become {
    my ($user) = @_;
    my ($uid, $gid) = @$user{qw(uid gid)};
    $) = "$gid $gid $$user{groups}";
    $( = $gid;
    ($<, $>) = ($uid, $uid);
    return $< == $uid && $> == $uid && $( == $gid && $) == $gid;
}

# Makes a user's login the environment of this process.  Variables that Incus is
# configured to give to commands stay in it.
sub log_in {
    my ($user) = @_;
    my %basis = (
        HOME => $$user{home},
        LANG => 'C.UTF-8',
        LOGNAME => $$user{name},
        PATH => $$user{uid}
            ? '/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games'
            : '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        SHELL => $$user{shell},
        USER => $$user{name},
    );
    my $login = kept_login($user, \%basis);
    my %login = map { /^([^=]+)=(.*)$/s } split /\0/, $login;
    # Shells set these for themselves.
    delete @login{qw(PWD OLDPWD SHLVL _)};
    delete $ENV{container};
    %ENV = (%ENV, %basis, %login);
}

# Returns the output of login.sh: the kept one if no file changed since.
sub kept_login {
    my ($user, $basis) = @_;
    my $place = "/run/incus-testbed.login.$$user{uid}";
    my $key = join "\0", %$user{qw(name home shell)}, login_files();
    $key = length($key) . "\0$key";
    my $kept = content($place);
    if (substr($kept, 0, length $key) ne $key) {
        $kept = '';
        my $umask = umask 077;
        my $opened = open my $file, '>', "$place.$$";
        umask $umask;    # the command's
        return '' unless $opened;
        syswrite $file, $key;
        print_login($user, $basis, $file);
        close $file;
        $kept = content("$place.$$");
        rename "$place.$$", $place or unlink "$place.$$";
    }
    return substr $kept, length $key;
}

# Returns each file and its content.
sub login_files {
    my @paths = @login_files;
    if (opendir my $folder, $login_folder) {
        push @paths, map { "$login_folder/$_" } sort readdir $folder;
    }
    return map { $_, content($_) } @paths;
}

sub content {
    my ($path) = @_;
    return '' unless -f $path and open my $file, '<', $path;
    local $/;
    my $content = <$file>;
    return defined $content ? $content : '';
}

sub print_login {
    my ($user, $basis, $file) = @_;
    my $shell = -x '/bin/bash' ? '/bin/bash' : 'sh';
    defined(my $child = fork) or return;
    if (!$child) {
        setpgrp;
        $SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT TERM);
        umask 022;
        %ENV = %$basis;
        chdir $$user{home} or chdir '/';
        open STDOUT, '>&', $file;
        become($user) and exec { $shell } $shell, '-c', $login_script, 'login';
        kill KILL => $$;
    }
    local $SIG{ALRM} = sub { kill KILL => -$child };
    alarm $login_limit;
    while (waitpid($child, 0) == -1 && $! == 4) { }    # 4: EINTR
    alarm 0;
}
