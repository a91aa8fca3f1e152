# A GDB server of the machine that is set, on a free port of 127.0.0.1; the processor stands still until
# GDB lets it go on. Renode's own `machine StartGdbServer` listens on all addresses of the computer. What
# Renode does not make public is taken by reflection, by the names that it has in Renode 1.16.
#
# In Renode's monitor: include @emulation/renode/gdb.py, then tmf_gdb, which answers with the port.
# This is for Renode's IronPython.

import clr
from Antmicro.Renode.Core import IMachine
from Antmicro.Renode.Peripherals.CPU import ExecutionMode, ICpuSupportingGdb
from Antmicro.Renode.Sockets import SocketsManager
from Antmicro.Renode.Utilities import SocketServerProvider
from Antmicro.Renode.Utilities.GDB import GdbStub
from System import Array, Delegate, Object, Type
from System.Collections.Generic import IEnumerable
from System.Net import IPAddress, IPEndPoint
from System.Net.Sockets import AddressFamily, ProtocolType, SocketType
from System.Reflection import BindingFlags
from System.Threading import Thread, ThreadStart

HIDDEN = BindingFlags.NonPublic | BindingFlags.Instance


def mc_tmf_gdb():
    machine = monitor.Machine
    cpus = Array[ICpuSupportingGdb](list(machine.SystemBus.GetCPUs()))
    for cpu in cpus:
        cpu.ExecutionMode = ExecutionMode.SingleStep

    server, kind = SocketServerProvider(False, False, "GDB"), clr.GetClrType(SocketServerProvider)
    socket = SocketsManager.Instance.AcquireSocket(
        None, AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp,
        IPEndPoint(IPAddress.Loopback, 0), "GDB", 1, False, True)
    kind.GetField("server", HIDDEN).SetValue(server, socket)

    of = clr.GetClrType(GdbStub)
    types = [clr.GetClrType(IMachine), clr.GetClrType(IEnumerable[ICpuSupportingGdb])]
    constructor = of.GetConstructor(HIDDEN, None, Array[Type](types), None)
    stub = constructor.Invoke(Array[Object]([machine, cpus]))
    stub.LogsEnabled = False
    of.GetField("terminal", HIDDEN).SetValue(stub, server)
    of.GetMethod("SetupTerminal", HIDDEN).Invoke(stub, Array[Object]([False, False]))

    body = kind.GetMethod("ListenerThreadBody", HIDDEN)
    listener = Thread(Delegate.CreateDelegate(clr.GetClrType(ThreadStart), server, body))
    listener.IsBackground = True
    kind.GetField("listenerThread", HIDDEN).SetValue(server, listener)
    listener.Start()
    print("port %d" % socket.LocalEndPoint.Port)
