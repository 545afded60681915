%% A web server whose pages say who asks, and a client that fetches one over both address
%% families, by gen_tcp and by httpc, which keeps connections.
-module(fetch).
-export([main/1]).

main([Port]) ->
    Options = [inet6, {ipv6_v6only, false}, {packet, http_bin}, {active, false},
               {reuseaddr, true}, {backlog, 128}],
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port), Options),
    io:put_chars("ready\n"),
    accept(Listener);
main([V4, V6, Port | _]) ->
    {ok, _} = application:ensure_all_started(inets),
    lists:foreach(fun(Host) -> fetch(Host, list_to_integer(Port)) end, [V4, V6]),
    halt(0).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> ok end, serve(Socket) end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

serve(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, http_eoh} ->
            {ok, {Address, _}} = inet:peername(Socket),
            Page = [string:replace(string:lowercase(inet:ntoa(Address)), "::ffff:", ""), "\n"],
            Length = integer_to_list(iolist_size(Page)),
            gen_tcp:send(Socket, ["HTTP/1.1 200 OK\r\nContent-Length: ", Length, "\r\n\r\n", Page]),
            serve(Socket);
        {ok, _} -> serve(Socket);
        {error, _} -> gen_tcp:close(Socket)
    end.

fetch(Host, Port) ->
    {ok, Address} = inet:parse_address(Host),
    Family = case tuple_size(Address) of 4 -> inet; 8 -> inet6 end,
    parallel(20, fun() -> raw(Address, Port, Family) end),
    Url = lists:flatten(io_lib:format("http://~s:~b/who", [bracketed(Host, Family), Port])),
    ok = httpc:set_options([{ipfamily, Family}]),
    parallel(20, fun() ->
        {ok, {{_, 200, _}, _, Page}} = httpc:request(Url),
        io:put_chars(Page)
    end).

bracketed(Host, inet) -> Host;
bracketed(Host, inet6) -> ["[", Host, "]"].

raw(Address, Port, Family) ->
    {ok, Socket} = gen_tcp:connect(Address, Port, [Family, binary, {active, false}]),
    ok = gen_tcp:send(Socket, "GET /who HTTP/1.0\r\n\r\n"),
    io:put_chars(lists:last(binary:split(everything(Socket, <<>>), <<"\r\n\r\n">>))),
    gen_tcp:close(Socket).

everything(Socket, Sofar) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, More} -> everything(Socket, <<Sofar/binary, More/binary>>);
        {error, closed} -> Sofar
    end.

parallel(Count, What) ->
    Started = [spawn_monitor(What) || _ <- lists:seq(1, Count)],
    [receive {'DOWN', Reference, process, Pid, normal} -> ok end || {Pid, Reference} <- Started].
